package volumes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// request is a file system to mount.
type request struct {
	// what names it in errors.
	what string
	// helper is the program that mounts it ("mount.efs"); "" is mount, which asks
	// the kernel and no helper.
	helper string
	fstype string
	source string
	// options are those of mount -o.
	options []string
	// remote says that a server answers for it.
	remote bool
	// server, if set, is the host name whose address the option addr= is to be.
	server string
	// netns, if set, is the network namespace from which the kernel asks the server.
	netns string
}

// args are the arguments of the program that mounts r at target.
func (r *request) args(target string) []string {
	var args []string
	if r.helper == "" {
		args = append(args, "-i", "-t", r.fstype)
	}
	if len(r.options) > 0 && r.helper == "" {
		args = append(args, "-o", strings.Join(r.options, ","))
	}
	args = append(args, r.source, target)
	if len(r.options) > 0 && r.helper != "" {
		// Helpers take their options last.
		args = append(args, "-o", strings.Join(r.options, ","))
	}
	return args
}

// mount mounts r at target unless something is mounted there.
func (v *Volumes) mount(ctx context.Context, target string, r *request) error {
	mounted, err := mountsAt(target)
	if err != nil || mounted > 0 {
		return err
	}
	if r.server != "" {
		addrs, err := v.cfg.Resolve(ctx, "ip", r.server)
		if err == nil && len(addrs) == 0 {
			err = errors.New("it has no address")
		}
		if err != nil {
			return fmt.Errorf("cannot mount %s: cannot find file server %s: %w", r.what, r.server, err)
		}
		resolved := *r
		resolved.options = append([]string{"addr=" + addrs[0].Unmap().String()}, r.options...)
		r = &resolved
	}
	name := r.helper
	if name == "" {
		name = "mount"
	}
	program, err := find(name)
	if err != nil {
		return fmt.Errorf("cannot mount %s: %w", r.what, err)
	}
	args := r.args(target)
	if r.netns != "" {
		args = append([]string{"--net=" + r.netns, "--", program}, args...)
		if program, err = find("nsenter"); err != nil {
			return fmt.Errorf("cannot mount %s: %w", r.what, err)
		}
	}
	if err := v.run(ctx, program, args...); err != nil {
		// A mount that was cut off may have come true.
		return errors.Join(fmt.Errorf("cannot mount %s: %w", r.what, err), v.unmount(context.WithoutCancel(ctx), target))
	}
	return nil
}

// unmount takes away whatever is mounted at target, lazily: a server that does
// not answer is not waited for.
func (v *Volumes) unmount(ctx context.Context, target string) error {
	const layers = 16 // an agent that is killed again and again while it mounts
	for range layers {
		mounted, err := mountsAt(target)
		if err != nil || mounted == 0 {
			return err
		}
		if err := v.detach(ctx, target); err != nil {
			return err
		}
	}
	return fmt.Errorf("cannot unmount %s: it is mounted more than %d times", target, layers)
}

// detach unmounts target once, lazily. A child does it: the kernel may talk to
// the server even so.
func (v *Volumes) detach(ctx context.Context, target string) error {
	umount, err := find("umount")
	if err == nil {
		err = v.run(ctx, umount, "-i", "-c", "-l", target)
	}
	if err == nil {
		return nil
	}
	if mounted, merr := mountsAt(target); merr == nil && mounted == 0 {
		return nil // somebody else was faster
	}
	return fmt.Errorf("cannot unmount %s: %w", target, err)
}

// unmountBelow unmounts everything at and below dir.
func (v *Volumes) unmountBelow(ctx context.Context, dir string) error {
	infos, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return fmt.Errorf("cannot list mounts: %w", err)
	}
	for _, m := range slices.Backward(infos) {
		if err := v.unmount(ctx, m.Mountpoint); err != nil {
			return err
		}
	}
	return nil
}

// mountsAt counts what is mounted at path. It reads the kernel's list and does
// not touch path.
func mountsAt(path string) (int, error) {
	infos, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(path))
	if err != nil {
		return 0, fmt.Errorf("cannot list mounts: %w", err)
	}
	return len(infos), nil
}

// explain adds figures to an error of a full disk.
func explain(err error, path string) error {
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return err
	}
	var st unix.Statfs_t
	if unix.Statfs(path, &st) != nil {
		return err
	}
	block := uint64(st.Bsize)
	return fmt.Errorf("%w: %s has %d MiB and %d files left of %d MiB and %d files",
		err, path, st.Bavail*block>>20, st.Ffree, st.Blocks*block>>20, st.Files)
}

// empty says whether a directory on a file server has no entry. A child looks: the
// server may be hanging.
func (v *Volumes) empty(ctx context.Context, path string) (bool, error) {
	ls, err := find("ls")
	if err != nil {
		return false, err
	}
	out, err := v.output(ctx, ls, "-A", "-U", "--", path)
	if err != nil {
		return false, fmt.Errorf("cannot read %s: %w", path, err)
	}
	return len(out) == 0, nil
}
