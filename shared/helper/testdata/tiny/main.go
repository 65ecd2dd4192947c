package main

import (
	"context"

	"github.com/khelp/khelp/shared/helper"
)

type counts struct{ In uint64 }

func main() {
	helper.Serve(helper.Helper[counts]{Name: "tiny", Version: "1.0.0", Classes: helper.Classes{"tcp"}, Hooks: helper.Hooks[counts]{
		"tcp.est_in": func(_ context.Context, _ *helper.Call, s *counts) error { s.In++; return nil },
	}})
}
