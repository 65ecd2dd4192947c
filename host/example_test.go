package host_test

import (
	"context"
	"fmt"
	"log"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
)

// segs is a whole helper. In life it is a program of its own, whose main does nothing but this.
func segs() {
	type counts struct{ In uint64 }
	helper.Serve(helper.Helper[counts]{Name: "segs", Version: "1.0.0", Classes: helper.Classes{"tcp"}, Hooks: helper.Hooks[counts]{
		"tcp.est_in": func(_ context.Context, _ *helper.Call, s *counts) error { s.In++; return nil },
	}})
}

func init() { programs["segs"] = segs }

// must stands for whatever a program does about an error.
func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

// A program with a hook point: it registers the point, loads a helper (a process of its own), makes an object, passes the point with it,
// and sees what the helper keeps on the object.
func Example() {
	command := program("segs") // such as []string{"bin/segs"}

	ctx := context.Background()
	h := must(host.New(host.Config{}))
	point := must(h.RegisterHead("tcp.est_in", hhook.Options{}))
	if err := h.Load(ctx, shared.HelperSpec{Name: "segs", Command: command}, host.LoadOptions{}); err != nil {
		log.Fatal(err)
	}
	conn := must(h.NewObject(ctx, "tcp"))
	for _, segment := range []string{"GET / ", "HTTP/1.1"} {
		if point.Enabled() { // one atomic load: without a hook the point costs nothing more
			must(point.Run(ctx, conn, []byte(segment)))
		}
	}
	fmt.Println(must(h.Objects(host.ObjectFilter{}))[0].Slots[0].Values)
	fmt.Println(conn.Destroy(ctx), h.Shutdown(ctx))
	// Output:
	// map[in:2]
	// <nil> <nil>
}
