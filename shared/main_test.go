package shared_test

import (
	"testing"

	"github.com/khelp/khelp/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }
