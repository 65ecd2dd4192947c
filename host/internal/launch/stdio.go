package launch

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
)

// go-plugin's own servers point os.Stdout and os.Stderr of the helper to a gRPC stream, in blocks of a kilobyte that wait for a reader:
// a helper that prints more than a pipe holds stops for good unless somebody takes them. go-plugin's client for this stream is private
// and has no end that can be waited for, so the two fields of its message are read here.
const stdioMethod = "/plugin.GRPCStdio/StreamStdio"

const (
	stdioChannelField = 1
	stdioDataField    = 2
	stdioStdout       = 1
)

// rawCodec passes message bytes on as they are.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) ([]byte, error) {
	b, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("raw codec cannot send %T", v)
	}
	return *b, nil
}

func (rawCodec) Unmarshal(data []byte, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("raw codec cannot receive %T", v)
	}
	*b = append((*b)[:0], data...)
	return nil
}

// copyStdio passes the stream on until it ends, ctx is done, or the helper turns out not to have it, as helpers in other languages do.
func copyStdio(ctx context.Context, conn *grpc.ClientConn, stdout, stderr func(string)) {
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, stdioMethod, grpc.ForceCodec(rawCodec{}))
	if err != nil {
		return
	}
	var msg []byte // the request is empty
	if stream.SendMsg(&msg) != nil || stream.CloseSend() != nil {
		return
	}
	out, errs := lineWriter{emit: stdout}, lineWriter{emit: stderr}
	defer out.flush()
	defer errs.flush()
	for stream.RecvMsg(&msg) == nil {
		channel, data := parseStdio(msg)
		if channel == stdioStdout {
			_, _ = out.Write(data)
		} else {
			_, _ = errs.Write(data)
		}
	}
}

// parseStdio reads a message; a broken one has no data.
func parseStdio(msg []byte) (channel uint64, data []byte) {
	for len(msg) > 0 {
		number, kind, n := protowire.ConsumeTag(msg)
		if n < 0 {
			return 0, nil
		}
		msg = msg[n:]
		switch {
		case number == stdioChannelField && kind == protowire.VarintType:
			channel, n = protowire.ConsumeVarint(msg)
		case number == stdioDataField && kind == protowire.BytesType:
			data, n = protowire.ConsumeBytes(msg)
		default:
			n = protowire.ConsumeFieldValue(number, kind, msg)
		}
		if n < 0 {
			return 0, nil
		}
		msg = msg[n:]
	}
	return channel, data
}
