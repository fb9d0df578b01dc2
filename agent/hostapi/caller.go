package hostapi

import (
	"context"
	"net"
	"net/http"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// callerKey finds the caller's credentials in a request's context.
type callerKey struct{}

// withCaller keeps who opened the connection, as the kernel says, so that the journal can tell who stopped what.
func withCaller(ctx context.Context, conn net.Conn) context.Context {
	c, ok := conn.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	if raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}) != nil || err != nil {
		return ctx
	}
	return context.WithValue(ctx, callerKey{}, *cred)
}

// caller is the field that names who asked.
func caller(r *http.Request) zap.Field {
	cred, ok := r.Context().Value(callerKey{}).(unix.Ucred)
	if !ok {
		return zap.Skip()
	}
	return zap.Dict("caller", zap.Uint32("uid", cred.Uid), zap.Int32("pid", cred.Pid))
}
