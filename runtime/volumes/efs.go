package volumes

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/runtime/volume"
)

// helperEFS is the program of amazon-efs-utils.
const helperEFS = "mount.efs"

var (
	validFileSystem  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]*$`)
	validAccessPoint = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9:/-]*$`)
)

// HasEFSHelper says whether the host has mount.efs, which encryption, access
// points and roles need.
func HasEFSHelper() bool {
	_, err := find(helperEFS)
	return err == nil
}

// efsName is the directory of the mount: who asks for the same gets the same one.
func efsName(e *volume.EFS) string {
	all := strings.Join([]string{
		e.FileSystemID, efsRoot(e), e.AccessPointID, strconv.FormatBool(e.TLS), strconv.FormatBool(e.IAM),
		strconv.Itoa(e.TLSPort), e.CredentialsURI, e.NetNS,
	}, "\x00")
	sum := sha256.Sum256([]byte(all))
	return "efs-" + e.FileSystemID + "-" + hex.EncodeToString(sum[:10])
}

// efsRoot is the directory of the file system that is mounted.
func efsRoot(e *volume.EFS) string {
	if e.AccessPointID != "" {
		return "/" // the access point has its own
	}
	return path.Clean("/" + e.RootDirectory)
}

// efsDevice is the file system in mount.efs's form.
func efsDevice(e *volume.EFS) string {
	if efsRoot(e) == "/" {
		return e.FileSystemID
	}
	return e.FileSystemID + ":" + efsRoot(e)
}

// efsOptions are those of mount.efs.
func efsOptions(e *volume.EFS) []string {
	var o []string
	add := func(when bool, option string) {
		if when {
			o = append(o, option)
		}
	}
	add(e.TLS, "tls")
	add(e.TLSPort != 0, "tlsport="+strconv.Itoa(e.TLSPort))
	add(e.IAM, "iam")
	add(e.IAM && e.CredentialsURI != "", "awscredsuri="+e.CredentialsURI)
	add(e.AccessPointID != "", "accesspoint="+e.AccessPointID)
	add(e.NetNS != "", "netns="+e.NetNS)
	return o
}

// efsRequest mounts through mount.efs where the host has it, else with the
// kernel's own NFS client, which neither encrypts nor signs.
func (v *Volumes) efsRequest(e *volume.EFS) (*request, error) {
	what := "EFS file system " + efsDevice(e)
	switch {
	case !validFileSystem.MatchString(e.FileSystemID):
		return nil, fmt.Errorf("cannot mount EFS: %q is not the id of a file system", e.FileSystemID)
	case e.AccessPointID != "" && !validAccessPoint.MatchString(e.AccessPointID):
		return nil, fmt.Errorf("cannot mount %s: %q is not the id of an access point", what, e.AccessPointID)
	case HasEFSHelper():
		return &request{
			what: what, helper: helperEFS, fstype: "efs", source: efsDevice(e), options: efsOptions(e), remote: true,
		}, nil
	case e.TLS || e.IAM || e.AccessPointID != "":
		return nil, fmt.Errorf("cannot mount %s: encryption in transit, IAM authorization and access points need amazon-efs-utils (mount.efs) on the host", what)
	case v.cfg.Region == "":
		return nil, errors.New("cannot mount " + what + ": the region is not known (AWS_DEFAULT_REGION)")
	}
	return &request{
		what: what, fstype: "nfs", source: ":" + efsRoot(e), remote: true, netns: e.NetNS,
		server: e.FileSystemID + ".efs." + v.cfg.Region + "." + v.cfg.DNSSuffix,
		options: []string{
			"nfsvers=4.1", "rsize=1048576", "wsize=1048576", "hard", "timeo=600", "retrans=2", "noresvport",
		},
	}, nil
}

// dnsSuffix is the domain of a region's partition.
func dnsSuffix(region string) string {
	for _, p := range []struct{ prefix, suffix string }{
		{"cn-", "amazonaws.com.cn"},
		{"us-iso-", "c2s.ic.gov"},
		{"us-isob-", "sc2s.sgov.gov"},
		{"us-isof-", "csp.hci.ic.gov"},
		{"eu-isoe-", "cloud.adc-e.uk"},
		{"eusc-", "amazonaws.eu"},
	} {
		if strings.HasPrefix(region, p.prefix) {
			return p.suffix
		}
	}
	return "amazonaws.com"
}

// CanMountEFS says whether the host can mount EFS at all: it has mount.efs, or a
// kernel with an NFS client.
func CanMountEFS() bool {
	if HasEFSHelper() {
		return true
	}
	if data, err := os.ReadFile("/proc/filesystems"); err == nil && strings.Contains(string(data), "\tnfs4\n") {
		return true
	}
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return false
	}
	modules, err := filepath.Glob("/lib/modules/" + unix.ByteSliceToString(name.Release[:]) + "/kernel/fs/nfs/nfsv4.ko*")
	return err == nil && len(modules) > 0
}
