package config

// Documented is a setting as the manual has it.
type Documented struct {
	Name    string
	Form    string // what a value looks like
	Default string // "" when there is none, or it is a secret
}

// Reference lists all settings that are honoured and have a variable, in the order of the table.
func Reference() []Documented {
	c := defaults()
	pending := pendings()
	var all []Documented
	for _, r := range table() {
		if !r.env || r.reason != "" {
			continue
		}
		if _, waits := pending[r.name]; waits {
			continue
		}
		d := Documented{Name: r.name, Form: r.form}
		if !r.secret && r.show != nil {
			d.Default = r.show(&c)
		}
		all = append(all, d)
	}
	return all
}
