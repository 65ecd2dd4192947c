package control

import (
	"context"
	"errors"
	"io"
	"iter"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/control/controlv1"
	"github.com/khelp/khelp/shared"
)

// follower is what a host's subscriptions have in common.
type follower[T any] interface {
	Next(ctx context.Context) (T, error)
	Close()
}

// Events answers khelpd events.
func (s *service) Events(req *controlv1.EventsRequest, stream grpc.ServerStreamingServer[controlv1.Event]) error {
	if !req.GetFollow() {
		return tell(s.host.History(), stream, eventToProto)
	}
	return follow(s, s.host.Follow(), shared.PrivilegeEvents, stream, eventToProto)
}

// Logs answers khelpd logs.
func (s *service) Logs(req *controlv1.LogsRequest, stream grpc.ServerStreamingServer[controlv1.LogRecord]) error {
	if err := shared.ValidateName("helper name", req.GetName()); err != nil {
		return err
	}
	records, sub, err := s.host.FollowLogs(req.GetName())
	if err != nil {
		return err
	}
	defer sub.Close()
	if err := tell(records, stream, logToProto); err != nil || !req.GetFollow() {
		return err
	}
	return follow(s, sub, shared.PrivilegeLogs, stream, logToProto)
}

// tell sends what there is.
func tell[T, M any](list []T, stream grpc.ServerStreamingServer[M], convert func(*T) *M) error {
	for i := range list {
		if err := stream.Send(convert(&list[i])); err != nil {
			return err
		}
	}
	return nil
}

// follow sends what comes until the caller, the server or the host ends, or until the caller has lost the privilege. It closes sub.
func follow[T, M any](s *service, sub follower[T], p shared.Privilege, stream grpc.ServerStreamingServer[M], convert func(*T) *M) error {
	defer sub.Close()
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	for {
		v, err := sub.Next(ctx)
		switch {
		case s.life.Err() != nil || errors.Is(err, shared.ErrClosed):
			return errEnding
		case err != nil:
			return err
		}
		if err := s.permit(ctx, p); err != nil {
			return err
		}
		if err := stream.Send(convert(&v)); err != nil {
			return err
		}
	}
}

// Events tells what has happened in the daemon: the last events, or, to follow, the present state and then what comes, until ctx ends.
// The error comes last; the end of the daemon is ErrNotRunning.
func (c *Client) Events(ctx context.Context, follow bool) iter.Seq2[host.Event, error] {
	return receive(ctx, func(ctx context.Context) (grpc.ServerStreamingClient[controlv1.Event], error) {
		return c.stub.Events(ctx, &controlv1.EventsRequest{Follow: follow})
	}, eventFromProto)
}

// Logs tells what a helper has logged and, to follow, what comes, until ctx ends. The error comes last: ErrNotExist for a name that has
// never logged, ErrNotRunning for the end of the daemon.
func (c *Client) Logs(ctx context.Context, name string, follow bool) iter.Seq2[host.LogRecord, error] {
	return receive(ctx, func(ctx context.Context) (grpc.ServerStreamingClient[controlv1.LogRecord], error) {
		return c.stub.Logs(ctx, &controlv1.LogsRequest{Name: name, Follow: follow})
	}, logFromProto)
}

// receive makes an iterator of a stream. The stream ends with the loop over it.
func receive[T, M any](
	ctx context.Context, open func(context.Context) (grpc.ServerStreamingClient[M], error), convert func(*M) T,
) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := open(ctx)
		for err == nil {
			var m *M
			if m, err = stream.Recv(); err == nil && !yield(convert(m), nil) {
				return
			}
		}
		if !errors.Is(err, io.EOF) {
			var none T
			yield(none, fromStatus(err))
		}
	}
}

func eventToProto(e *host.Event) *controlv1.Event {
	return &controlv1.Event{
		Time: timestamppb.New(e.Time), Type: string(e.Type), Helper: e.Helper, Incarnation: e.Incarnation,
		Point: string(e.Point), Object: e.Object, Cause: string(e.Cause), Message: validText(e.Message),
	}
}

func eventFromProto(e *controlv1.Event) host.Event {
	return host.Event{
		Time: e.GetTime().AsTime(), Type: host.EventType(e.GetType()), Helper: e.GetHelper(), Incarnation: e.GetIncarnation(),
		Point: shared.HookPoint(e.GetPoint()), Object: e.GetObject(), Cause: shared.Cause(e.GetCause()), Message: e.GetMessage(),
	}
}

func logToProto(r *host.LogRecord) *controlv1.LogRecord {
	return &controlv1.LogRecord{Time: timestamppb.New(r.Time), Level: r.Level, Message: validText(r.Message)}
}

func logFromProto(r *controlv1.LogRecord) host.LogRecord {
	return host.LogRecord{Time: r.GetTime().AsTime(), Level: r.GetLevel(), Message: r.GetMessage()}
}
