package container

import "fmt"

// SecretOptions are options of a log driver, by name, whose values must not be
// seen and never reach a disk.
type SecretOptions map[string]string

// Format keeps values out of whatever prints them, for every verb.
func (SecretOptions) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("***")) }

// MarshalText keeps values out of encoders.
func (SecretOptions) MarshalText() ([]byte, error) { return []byte("***"), nil }
