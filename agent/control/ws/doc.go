// Package ws keeps one websocket to a service alive and says why it ended. It
// knows nothing of ECS: what to sign, what frames mean and how a refusal reads
// are handed in.
//
// The life of a session:
//
//	Dial ──▶ open ──┬─ peer closes ─────────────────▶ *CloseError
//	                ├─ no activity ─────────────────▶ ErrIdle
//	                ├─ lifetime is over: close 1000 ▶ ErrExpired
//	                ├─ the network fails ───────────▶ the error
//	                └─ the context ends: close 1000 ▶ its cause
//
// Keeper makes sessions one after another; its Policy turns that reason into how
// long to wait before the next Dial.
package ws
