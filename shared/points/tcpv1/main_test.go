package tcpv1

import (
	"testing"

	"github.com/khelp/khelp/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }
