// Halfcount passes itself off as h_example and forgets every second segment that goes out. The demo must find it out.
package main

import (
	"context"

	"github.com/khelp/khelp/shared/helper"
)

type counts struct{ EstIn, EstOut, Calls uint64 }

func main() {
	helper.Serve(helper.Helper[counts]{Name: "h_example", Version: "1.0.0", Classes: helper.Classes{"tcp"}, Hooks: helper.Hooks[counts]{
		"tcp.est_in": func(_ context.Context, _ *helper.Call, s *counts) error { s.EstIn++; return nil },
		"tcp.est_out": func(_ context.Context, _ *helper.Call, s *counts) error {
			s.Calls++
			s.EstOut = s.Calls / 2
			return nil
		},
	}})
}
