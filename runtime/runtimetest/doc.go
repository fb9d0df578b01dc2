// Package runtimetest holds what the tests of a container.Runtime share: Run,
// the conformance suite that says in code what runtime/container says in prose;
// StartContainerd, a private containerd with its own state, so that no test
// touches the system's; and Images, small images on a loopback registry that
// can be told to be slow, wrong or forgetful.
//
// Only tests import it.
package runtimetest
