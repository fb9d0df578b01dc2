// Package fakert is a container.Runtime without containers: what each image and
// container does is scripted, time passes by timers only (so testing/synctest
// owns it), and nothing outside the process is touched. It passes the suite of
// runtime/runtimetest, so what a test of the engine learns from it is also true
// of containerd.
//
// A Script says what one container does:
//
//	rt := fakert.New(fakert.Config{
//		Container: func(spec container.Spec) fakert.Script {
//			if spec.Labels["name"] == "migrate" {
//				return fakert.Script{ExitAfter: 2 * time.Second, ExitCode: 1}
//			}
//			return fakert.Script{} // runs until it is signalled
//		},
//	})
//
// The methods that are not of container.Runtime are the world outside: Exit
// ends a container's init, Vanish removes a container behind the agent's back,
// Reboot loses every process, Break and Mend take the runtime away and bring it
// back. Calls is what the runtime was told, in order.
package fakert
