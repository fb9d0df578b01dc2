package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// systemComponents are the operating system below root and the packages it has installed.
func systemComponents(ctx context.Context, root string) (system component, packages []component, err error) {
	release, err := readRelease(filepath.Join(root, "etc/os-release"))
	if err != nil {
		return system, nil, err
	}
	system = component{Type: "operating-system", Name: release["ID"], Version: release["VERSION_ID"]}
	system.Ref = system.Name + "-" + system.Version
	status, err := os.Open(filepath.Join(root, "var/lib/dpkg/status"))
	switch {
	case err == nil:
		defer status.Close() //nolint:errcheck // only read
		packages, err = debComponents(status, system)
	case errors.Is(err, fs.ErrNotExist):
		packages, err = rpmComponents(ctx, root, system)
	}
	if err == nil && len(packages) == 0 {
		err = fmt.Errorf("neither dpkg nor rpm has installed a package below %s", root)
	}
	if err != nil {
		return system, nil, fmt.Errorf("cannot list packages: %w", err)
	}
	return system, packages, nil
}

// readRelease reads os-release(5).
func readRelease(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot tell the operating system: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	values := map[string]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), "="); ok {
			values[name] = strings.Trim(value, `"'`)
		}
	}
	if err := lines.Err(); err != nil || values["ID"] == "" {
		return nil, errors.Join(fmt.Errorf("%s does not say the operating system", path), err)
	}
	return values, nil
}

// debComponents reads dpkg's status file.
func debComponents(status io.Reader, system component) (out []component, err error) {
	fields := map[string]string{}
	take := func() {
		if fields["Status"] != "" && strings.HasSuffix(fields["Status"], " installed") {
			out = append(out, debComponent(fields, system))
		}
		clear(fields)
	}
	lines := bufio.NewScanner(status)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		line := lines.Text()
		switch name, value, ok := strings.Cut(line, ":"); {
		case line == "":
			take()
		case ok && line[0] != ' ' && line[0] != '\t':
			fields[name] = strings.TrimSpace(value)
		}
	}
	take()
	return out, lines.Err()
}

// maxLine bounds a line of dpkg's: dependencies of some packages fill pages.
const maxLine = 1 << 20

func debComponent(fields map[string]string, system component) component {
	name, version := fields["Package"], fields["Version"]
	purl := fmt.Sprintf("pkg:deb/%s/%s@%s?arch=%s&distro=%s", system.Name, escape(name), escape(version), fields["Architecture"], system.Ref)
	// Security trackers know source packages.
	if source := fields["Source"]; source != "" {
		source, of, _ := strings.Cut(source, " ")
		if of = strings.Trim(of, "()"); of != "" {
			source += "@" + of
		}
		purl += "&upstream=" + escape(source)
	}
	return component{Type: "library", Name: name, Version: version, PURL: purl}
}

// rpmFields are what rpm is asked for of each package.
const rpmFields = `%{NAME}\t%{EPOCHNUM}\t%{VERSION}-%{RELEASE}\t%{ARCH}\t%{SOURCERPM}\n`

// rpmComponents asks rpm.
func rpmComponents(ctx context.Context, root string, system component) ([]component, error) {
	list, err := exec.CommandContext(ctx, "rpm", "--root", root, "-qa", "--queryformat", rpmFields).Output()
	if err != nil {
		return nil, fmt.Errorf("rpm: %w", err)
	}
	var out []component
	for line := range strings.Lines(string(list)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 5 || f[0] == "gpg-pubkey" { // a key of whoever signed packages
			continue
		}
		purl := fmt.Sprintf("pkg:rpm/%s/%s@%s?arch=%s&distro=%s", system.Name, escape(f[0]), escape(f[2]), f[3], system.Ref)
		if f[1] != "0" {
			purl += "&epoch=" + f[1]
		}
		if f[4] != "(none)" {
			purl += "&upstream=" + escape(f[4])
		}
		out = append(out, component{Type: "library", Name: f[0], Version: f[2], PURL: purl})
	}
	return out, nil
}

// escape writes a part of a package URL: what is neither letter, digit nor one of .-_~: is encoded, so that no + becomes a blank.
func escape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(".-_~:", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

// escapePath does so between slashes.
func escapePath(s string) string {
	parts := strings.Split(s, "/")
	for i := range parts {
		parts[i] = escape(parts[i])
	}
	return strings.Join(parts, "/")
}
