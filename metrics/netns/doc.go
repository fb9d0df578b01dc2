// Package netns reads the link counters of a network namespace without entering it each time.
//
// A Reader makes one netlink socket inside the namespace when it is opened. A socket belongs to the namespace it was made in for
// ever, so that every later reading is a request and an answer on that socket: RTM_GETSTATS, which carries 64-bit counters and
// nothing else. Names and kinds of links come from RTM_GETLINK and are asked for when an unknown link appears, and now and then.
//
// The price is that the open socket keeps the namespace alive after its last process and mount are gone. A Reader therefore looks
// whether its path still leads to the same namespace, and gives up by itself if not; still, it is better closed before.
package netns
