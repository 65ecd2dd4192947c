package modcache

import (
	"testing"

	"github.com/khelp/khelp/host/hosttest/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m, testkit.Programs{"racer": racer}) }
