package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Sources of a value, as Setting.Source and Warning.Source name them. A file appears as its path, with the line if it has lines.
const (
	SourceEnvironment = "environment"
	SourceUserData    = "user data"
	SourceMetadata    = "instance metadata"
	SourceDefault     = "default"
)

// Options says where to look. The zero value reads the process environment and the default files.
type Options struct {
	// Environ replaces the process environment (NAME=VALUE each); nil means os.Environ.
	Environ []string
	// File replaces DefaultFile. A file that does not exist says nothing; one that was asked for by name has to exist.
	File string
	// JSONFile replaces DefaultJSONFile unless ECS_AGENT_CONFIG_FILE_PATH is set.
	JSONFile string
	// UserData is the EC2 user data; anything but the JSON of the package comment is passed over.
	UserData []byte
	// Region is the region that instance metadata told, the last resort.
	Region string
	// RequireRegion makes a missing region an error, as the agent needs one to register.
	RequireRegion bool
}

// Setting is one row of the listing.
type Setting struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Source string `json:"source"`
	// Reason is why Berth has no use for the setting; empty for all that is honoured.
	Reason string `json:"notHonoured,omitempty"`
}

// Warning is something about the settings that a person should mend but that does not stop the agent.
type Warning struct {
	Name    string `json:"name,omitempty"`
	Value   string `json:"value,omitempty"` // *** if secret
	Source  string `json:"source,omitempty"`
	Message string `json:"message"`
}

// String puts the warning into one line.
func (w Warning) String() string {
	var b strings.Builder
	if w.Name != "" {
		b.WriteString(w.Name)
		if w.Value != "" {
			fmt.Fprintf(&b, "=%q", w.Value)
		}
		b.WriteByte(' ')
	}
	if w.Source != "" {
		fmt.Fprintf(&b, "(%s) ", w.Source)
	}
	b.WriteString(w.Message)
	return b.String()
}

// Load reads all sources and answers the settings, remarks about them, and an error if the agent must not start: then it wraps
// ErrInvalid and names every such setting, unless a file could not be read.
func Load(o Options) (Config, []Warning, error) {
	if o.Environ == nil {
		o.Environ = os.Environ()
	}
	l := loader{rows: table(), pending: pendings(), config: defaults()}
	if err := l.openSources(o); err != nil {
		return Config{}, l.warnings, err
	}
	for _, r := range l.rows {
		l.apply(r)
	}
	l.regions(o)
	l.consequences()
	l.warnUnknown()
	if o.RequireRegion && l.config.Region == "" {
		l.fatal = append(l.fatal, fmt.Errorf("%w: no region: set AWS_DEFAULT_REGION", ErrInvalid))
	}
	if err := errors.Join(l.fatal...); err != nil {
		return Config{}, l.warnings, err
	}
	l.config.settings = l.settings
	return l.config, l.warnings, nil
}

// SocketPath answers where the host API is, for commands that need nothing else and must work where the files cannot be read.
func SocketPath() string {
	if p := os.Getenv("BERTH_SOCKET"); p != "" {
		return p
	}
	return DefaultSocket
}

// Environ answers the environment of this process, for whoever hands it on to Load with settings of his own behind it.
func Environ() []string { return os.Environ() }

// loader carries one Load through its steps.
type loader struct {
	rows     []row
	pending  map[string]pending
	env      map[string]string
	file     map[string]entry
	fileName string
	json     []jsonSource // highest first

	config   Config
	settings []Setting
	warnings []Warning
	fatal    []error
}

type jsonSource struct {
	name   string
	values map[string]json.RawMessage
}

// candidate is what one source says about one row.
type candidate struct {
	input

	source string
}

func (l *loader) openSources(o Options) error {
	l.env = map[string]string{}
	for _, kv := range o.Environ {
		if k, v, ok := strings.Cut(kv, "="); ok {
			l.env[k] = v
		}
	}
	// Proxies are the one thing that people write in small letters too.
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"} {
		if small := l.env[strings.ToLower(name)]; l.env[name] == "" && small != "" {
			l.env[name] = small
		}
	}
	l.fileName = o.File
	if l.fileName == "" {
		l.fileName = DefaultFile
	}
	text, err := os.ReadFile(l.fileName)
	if err != nil && (o.File != "" || !errors.Is(err, fs.ErrNotExist)) {
		return fmt.Errorf("cannot read settings: %w", err)
	}
	entries, problems := parseFile(string(text))
	l.file = map[string]entry{}
	for _, e := range entries {
		l.file[e.name] = e
	}
	for _, p := range problems {
		p.Source = l.fileName
		l.warnings = append(l.warnings, p)
	}
	return l.openJSON(o)
}

func (l *loader) openJSON(o Options) error {
	path := o.JSONFile
	for _, p := range []string{l.file["ECS_AGENT_CONFIG_FILE_PATH"].value, l.env["ECS_AGENT_CONFIG_FILE_PATH"]} {
		if p != "" {
			path = p
		}
	}
	if path == "" {
		path = DefaultJSONFile
	}
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot read settings: %w", err)
	}
	if len(bytes.TrimSpace(text)) > 0 {
		var values map[string]json.RawMessage
		if err := json.Unmarshal(text, &values); err != nil {
			return fmt.Errorf("%w: %s is not a JSON object: %w", ErrInvalid, path, err)
		}
		l.json = append(l.json, jsonSource{name: path, values: values})
	}
	var data struct {
		ECSAgentConfiguration map[string]json.RawMessage
	}
	if err := json.Unmarshal(o.UserData, &data); err == nil && len(data.ECSAgentConfiguration) > 0 {
		l.json = append(l.json, jsonSource{name: SourceUserData, values: data.ECSAgentConfiguration})
	}
	return nil
}

// candidates lists what the sources say about r, highest first.
func (l *loader) candidates(r row) []candidate {
	var out []candidate
	if r.env {
		if v, ok := l.env[r.name]; ok {
			out = append(out, candidate{input{text: v}, SourceEnvironment})
		}
		if e, ok := l.file[r.name]; ok {
			out = append(out, candidate{input{text: e.value}, fmt.Sprintf("%s:%d", l.fileName, e.line)})
		}
	}
	for _, src := range l.json {
		for _, key := range r.keys {
			if raw, ok := src.values[key]; ok && string(raw) != "null" {
				out = append(out, candidate{input{json: raw}, src.name})
			}
		}
	}
	return out
}

// apply lets the highest source that says something set the row, and keeps its listing.
func (l *loader) apply(r row) {
	s := Setting{Name: r.name, Source: SourceDefault, Reason: r.reason}
	for _, c := range l.candidates(r) {
		said, note, err := r.set(&l.config, c.input)
		shown := c.String()
		if r.secret && shown != "" {
			shown = "***"
		}
		if err != nil {
			l.refuse(r, c.source, shown, err)
			continue
		}
		if note != "" {
			l.warnings = append(l.warnings, Warning{Name: r.name, Value: shown, Source: c.source, Message: note})
		}
		if said {
			s.Source = c.source
			if r.reason != "" {
				s.Value = shown
			}
			break
		}
	}
	if r.reason == "" {
		s.Value = r.show(&l.config)
		if r.secret && s.Value != "" {
			s.Value = "***"
		}
		s.Reason = l.pendingReason(r.name, s.Value)
	}
	l.settings = append(l.settings, s)
}

func (l *loader) refuse(r row, source, shown string, err error) {
	if r.secret {
		err = errors.New("cannot be read") // a parser's error may quote what it read
	}
	if !r.fatal && !errors.Is(err, ErrInvalid) {
		l.warnings = append(l.warnings, Warning{
			Name: r.name, Value: shown, Source: source, Message: fmt.Sprintf("is passed over: %s; want %s", err, r.form),
		})
		return
	}
	if !errors.Is(err, ErrInvalid) {
		err = fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	l.fatal = append(l.fatal, fmt.Errorf("cannot use %s=%q from %s: %w; want %s", r.name, shown, source, err, r.form))
}

// regions completes the region: AWS_REGION counts in the same source only where AWS_DEFAULT_REGION is missing altogether, and
// instance metadata comes last. ECS Anywhere has no metadata to ask.
func (l *loader) regions(o Options) {
	if l.config.Region != "" {
		return
	}
	region, source := l.env["AWS_REGION"], SourceEnvironment
	if e := l.file["AWS_REGION"]; region == "" && e.value != "" {
		region, source = e.value, fmt.Sprintf("%s:%d", l.fileName, e.line)
	}
	if region == "" && !l.config.External {
		region, source = o.Region, SourceMetadata
	}
	if region = strings.TrimSpace(region); region == "" {
		return
	}
	l.config.Region = region
	l.revise("AWS_DEFAULT_REGION", region, source)
}

// revise corrects the listing of a setting that another one decided.
func (l *loader) revise(name, value, source string) {
	i := slices.IndexFunc(l.settings, func(s Setting) bool { return s.Name == name })
	l.settings[i].Value, l.settings[i].Source, l.settings[i].Reason = value, source, l.pendingReason(name, value)
}

// pendingReason is why Berth does not do what the value asks for yet; empty when it does.
func (l *loader) pendingReason(name, value string) string {
	if p := l.pending[name]; p.effect != value {
		return p.reason
	}
	return ""
}

// consequences settles what follows from one setting for another.
func (l *loader) consequences() {
	c := &l.config
	if c.External && c.Network.TaskENI {
		c.Network.TaskENI = false
		l.revise("ECS_ENABLE_TASK_ENI", "false", "ECS_EXTERNAL")
	}
	if !c.Network.TaskENI && c.Network.HighDensityENI {
		c.Network.HighDensityENI = false
		l.revise("ECS_ENABLE_HIGH_DENSITY_ENI", "false", "ECS_ENABLE_TASK_ENI")
	}
	if c.Metadata.AuditDisabled {
		c.Paths.AuditLog = ""
		l.revise("ECS_AUDIT_LOGFILE", "", "ECS_AUDIT_LOGFILE_DISABLED")
	}
	if c.Metadata.IntrospectionOffhost && c.Metadata.Introspection == DefaultIntrospectionAddress {
		c.Metadata.Introspection = ":51678"
		l.revise("BERTH_INTROSPECTION_ADDRESS", ":51678", "ECS_ALLOW_OFFHOST_INTROSPECTION_ACCESS")
	}
	if c.Image.DiskLow > c.Image.DiskHigh {
		c.Image.DiskLow = c.Image.DiskHigh
		l.revise("BERTH_IMAGE_DISK_LOW", strconv.Itoa(c.Image.DiskLow), "BERTH_IMAGE_DISK_HIGH")
	}
	if c.Paths.Run != DefaultRunDir {
		l.follow(&c.Paths.Socket, "BERTH_SOCKET", DefaultSocket)
		l.follow(&c.Paths.LogSocket, "BERTH_LOG_SOCKET", DefaultLogSocket)
	}
}

// follow moves a socket that nobody placed into another run directory.
func (l *loader) follow(path *string, name, def string) {
	if *path == def {
		*path = filepath.Join(l.config.Paths.Run, filepath.Base(def))
		l.revise(name, *path, "BERTH_RUN_DIR")
	}
}

// defaults are those of the packaged ECS agent (task-engine.md §11.1, ecs-init's), translated from its container to the host.
func defaults() Config {
	return Config{
		Cluster:    "default",
		Instance:   Instance{SpotDraining: true, ReservedPorts: []uint16{22, 2375, 2376, 51678, 51679}},
		Paths:      Paths{Data: DefaultDataDir, Run: DefaultRunDir, Socket: DefaultSocket, LogSocket: DefaultLogSocket, Updates: DefaultCacheDir, AuditLog: DefaultAuditLog, EBS: DefaultEBSDir, Exec: DefaultExecDir, ExecLogs: DefaultExecLogs},
		Containerd: Containerd{Address: DefaultContainerdAddress, Namespace: DefaultContainerdNamespace},
		Cgroup:     Cgroup{Root: "/sys/fs/cgroup", Driver: "auto", CPUPeriod: 100 * time.Millisecond, TaskLimits: true},
		Task: Task{
			ShutdownTimeout: 2 * time.Minute,
			StopTimeout:     30 * time.Second, StartTimeout: 3 * time.Minute, CreateTimeout: 4 * time.Minute,
			CleanupWait: 3 * time.Hour, Checkpoint: true,
		},
		Image: Image{
			PullBehavior: PullDefault, ManifestTimeout: time.Minute, PullTimeout: 2 * time.Hour, InactivityTimeout: time.Minute,
			CleanupInterval: 30 * time.Minute, MinimumAge: time.Hour, PerCycle: 5, UntrackedMinimumAge: time.Hour, UntrackedPerCycle: 5,
			DiskHigh: 85, DiskLow: 75,
		},
		Network:  Network{Bridge: "berth0", TaskENI: true, HighDensityENI: true, ExcludeIPv6Bindings: true},
		Metadata: Metadata{Rate: 40, Burst: 60, Listen: DefaultTaskMetadataAddress, AuditRollover: "size", AuditMaxMB: 5, AuditKeep: 24, Introspection: DefaultIntrospectionAddress},
		Metrics:  Metrics{PollWait: 10 * time.Second},
		Capability: Capability{
			LoggingDrivers: []string{"json-file", "syslog", "awslogs", "fluentd", "none"},
			TaskIAMRole:    true, TaskIAMRoleHost: true, AWSLogsExecutionRole: true, VolumePlugins: []string{"efsAuth"}, EBSVolumes: true, FirelensAsync: true,
		},
		Agent: Agent{LogLevel: "info", LogFormat: "logfmt", UpdatesEnabled: true, LogQueueMB: 128, UpdateDeadline: 2 * time.Minute, UpdateSpread: 30 * time.Second},
	}
}
