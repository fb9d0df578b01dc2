package prom

import (
	"fmt"
	"io"
	"net/http"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/berthd/berth/metrics"
)

// Page is what one scrape shows.
type Page struct {
	// Cluster is the name of the ECS cluster.
	Cluster string
	// Readings are the containers and tasks. Of several with the same labels the newest is shown.
	Readings []metrics.Reading
	// Agent are figures of the agent itself. Those of one name must be of one kind and differ in labels.
	Agent []Value
}

// Value is one figure of the agent.
type Value struct {
	// Name is the full metric name, such as berth_agent_tasks; that of a counter ends in _total.
	Name, Help string
	// Counter says that the figure only rises; otherwise it is a gauge.
	Counter bool
	Value   float64
	// Labels beside cluster.
	Labels []Label
}

// Label is a name and its value.
type Label struct{ Name, Value string }

// Handler serves pages. It calls page for each scrape, at the same time if there are several, and answers in the format that the
// client prefers.
func Handler(page func() Page) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		format := expfmt.NegotiateAccept(r.Header, expfmt.DefaultOpenMetricsAcceptedFormats()...)
		w.Header().Set("Content-Type", string(format))
		if r.Method == http.MethodHead {
			return
		}
		// The status is sent with the first byte; a client that has gone away by then needs no answer.
		_ = write(w, page(), format)
	})
}

func write(w io.Writer, p Page, format expfmt.Format) error {
	encoder := expfmt.NewEncoder(w, format)
	for _, f := range p.gather() {
		if err := encoder.Encode(f); err != nil {
			return fmt.Errorf("cannot write metrics: %w", err)
		}
	}
	closer, ok := encoder.(expfmt.Closer)
	if !ok {
		return nil
	}
	if err := closer.Close(); err != nil {
		return fmt.Errorf("cannot write metrics: %w", err)
	}
	return nil
}

// gather makes the families that have at least one metric.
func (p *Page) gather() []*dto.MetricFamily {
	containers, tasks := p.split()
	all := families()
	out := make([]*dto.MetricFamily, 0, 2*len(all)+len(p.Agent))
	out = append(out, gather(all, "berth_container_", containers)...)
	out = append(out, gather(all, "berth_task_", tasks)...)
	return append(out, p.agent()...)
}

// labelled is a reading with its labels made.
type labelled struct {
	reading *metrics.Reading
	labels  []*dto.LabelPair
}

// split tells containers from tasks and leaves out older readings with the same labels: a page with two would be refused whole.
func (p *Page) split() (containers, tasks []labelled) {
	type key struct{ task, name string }
	newest := make(map[key]*metrics.Reading, len(p.Readings))
	keyOf := func(r *metrics.Reading) key { return key{r.Container.TaskID(), r.Container.Name} }
	for i := range p.Readings {
		r := &p.Readings[i]
		if known, ok := newest[keyOf(r)]; !ok || r.Sample.Time.After(known.Sample.Time) {
			newest[keyOf(r)] = r
		}
	}
	for i := range p.Readings {
		r := &p.Readings[i]
		if newest[keyOf(r)] != r {
			continue
		}
		labels := []*dto.LabelPair{
			pair("cluster", p.Cluster), pair("task_id", r.Container.TaskID()),
			pair("family", r.Container.Family), pair("revision", r.Container.Revision),
		}
		if r.Container.Name == "" {
			tasks = append(tasks, labelled{r, labels})
			continue
		}
		containers = append(containers, labelled{r, append(labels, pair("container", r.Container.Name))})
	}
	return containers, tasks
}

func gather(all []family, prefix string, readings []labelled) []*dto.MetricFamily {
	var out []*dto.MetricFamily
	for i := range all {
		f := &all[i]
		var made []*dto.Metric
		for _, l := range readings {
			if v, ok := f.value(l.reading); ok {
				made = append(made, metric(f.kind, v, l.labels))
			}
		}
		if len(made) > 0 {
			out = append(out, &dto.MetricFamily{Name: new(prefix + f.name), Help: new(f.help), Type: f.kind.Enum(), Metric: made})
		}
	}
	return out
}

// agent makes the families of the agent's own figures, those of one name together.
func (p *Page) agent() []*dto.MetricFamily {
	var out []*dto.MetricFamily
	byName := make(map[string]*dto.MetricFamily)
	for i := range p.Agent {
		v := &p.Agent[i]
		kind := gauge
		if v.Counter {
			kind = counter
		}
		f, ok := byName[v.Name]
		if !ok {
			f = &dto.MetricFamily{Name: new(v.Name), Help: new(v.Help), Type: kind.Enum()}
			byName[v.Name] = f
			out = append(out, f)
		}
		labels := []*dto.LabelPair{pair("cluster", p.Cluster)}
		for _, l := range v.Labels {
			labels = append(labels, pair(l.Name, l.Value))
		}
		f.Metric = append(f.Metric, metric(kind, v.Value, labels))
	}
	return out
}

func metric(kind dto.MetricType, v float64, labels []*dto.LabelPair) *dto.Metric {
	m := &dto.Metric{Label: labels}
	if kind == counter {
		m.Counter = &dto.Counter{Value: new(v)}
	} else {
		m.Gauge = &dto.Gauge{Value: new(v)}
	}
	return m
}

func pair(name, value string) *dto.LabelPair {
	return &dto.LabelPair{Name: new(name), Value: new(value)}
}
