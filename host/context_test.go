package host_test

import (
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/host/tcp"
	"github.com/khelp/khelp/shared/points/tcpv1"
)

// Every point of the TCP subsystem declares the message that its context is, and the message is one that can be looked up by that name.
func TestH12_ContextIsDeclared(t *testing.T) {
	h := hosttest.New(t, host.Config{})
	s, err := tcp.New(h, tcp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	heads := h.Hooks()
	if len(heads) != len(tcpv1.Points) {
		t.Errorf("%d heads, want one for each of the %d points", len(heads), len(tcpv1.Points))
	}
	for _, head := range heads {
		message, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(head.Context))
		if err != nil {
			t.Errorf("%s has the context %q: %v", head.Point, head.Context, err)
			continue
		}
		if message.Descriptor().Fields().ByName("len") == nil {
			t.Errorf("%s: %s has no field len", head.Point, head.Context)
		}
	}
}
