// Package volumes makes the volumes of tasks true on the host: directories that
// live as long as their task, shared ones that stay, file systems that the local
// volume driver, EFS or EBS mounts. It imports nothing of the agent.
//
// Each volume is a directory below Config.Dir:
//
//	<name>/volume.json   what it is (written once, before anything else is seen)
//	<name>/users/<user>  an empty file for each task that uses it
//	<name>/_data         the content, or the mount point
//	.new-<name>          one that is being made; worth nothing after a crash
//	.gone-<name>-…       one that is being deleted
//
// What is on the disk is the whole truth: nothing is counted in memory, so an
// agent that was killed finds every use and every mount again.
//
//	        Acquire                 Acquire by another          Release or Remove
//	absent ────────▶ made ─▶ used ◀────────────────────▶ used ──────────────────▶ unused
//	                 record  user, then mount                    unmounted, then the user goes ─▶ deleted, unless kept
//
// The order is what makes it safe against kill -9: a user is on the disk before
// its file system is mounted, and leaves after it is unmounted.
//
// A file server may hang. File systems are therefore mounted and unmounted by
// child processes that have a deadline (mount, umount, mount.efs), what is mounted
// is read from mountinfo, and nobody here touches the inside of a mount point.
// Unmounting is lazy: containers that still run keep what they have.
package volumes
