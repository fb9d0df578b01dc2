package update

import (
	"fmt"
	"slices"
	"time"
)

// maxStarts is how often a new version may be started without coming to a good end.
const maxStarts = 3

// back returns from an update. The reason is written down first, so that whoever finds the old version current knows why.
func (u *Updater) back(r *Record, reason string) error {
	r.Reason = reason
	if err := u.cfg.State.save(*r); err != nil {
		return err
	}
	if err := u.cfg.Install.switchTo(r.From, ""); err != nil {
		return err
	}
	r.Phase, r.Ended = Returned, u.cfg.Now()
	return u.cfg.State.save(*r)
}

// pending is the update under way that the current version has to prove itself in. One whose switch did not happen, because whoever made
// it was killed, or whose return was broken off, is finished here.
func (u *Updater) pending() (Record, bool, error) {
	r, err := u.cfg.State.Record()
	if err != nil || r.Phase != Switched {
		return r, false, err
	}
	current, err := u.cfg.Install.Current()
	if err != nil || current == r.To {
		return r, err == nil, err
	}
	if r.Reason == "" {
		r.Reason = "it was broken off before the switch"
	}
	r.Phase, r.Ended = Returned, u.cfg.Now()
	return r, false, u.cfg.State.save(r)
}

// underWay has do decide about the update that the current version has to prove itself in, if there is one, while nobody else changes
// anything. pending says whether there is.
func (u *Updater) underWay(do func(r *Record) error) (r Record, pending bool, err error) {
	release, err := u.cfg.State.lock()
	if err != nil {
		return r, false, err
	}
	defer release()
	if r, pending, err = u.pending(); err == nil && pending {
		err = do(&r)
	}
	return r, pending, err
}

// Stopped is how a service ended, in systemd's words ($SERVICE_RESULT, $EXIT_CODE, $EXIT_STATUS of systemd.exec(5)).
type Stopped struct{ Result, Code, Status string }

// said is the end as a person reads it.
func (s Stopped) said() string {
	if s.Code == "" {
		return s.Result
	}
	return fmt.Sprintf("%s, %s %s", s.Result, s.Code, s.Status)
}

// GuardStart is to be called before each start of the agent by a program that is known to work. returned says that the version to be
// started is now the old one again.
func (u *Updater) GuardStart() (r Record, returned bool, err error) {
	r, _, err = u.underWay(func(r *Record) error {
		if r.Starts++; r.Starts <= maxStarts {
			return u.cfg.State.save(*r)
		}
		returned = true
		reason := fmt.Sprintf("version %s was started %d times and never came up", r.To, maxStarts)
		if r.Reason != "" {
			reason += ": " + r.Reason
		}
		return u.back(r, reason)
	})
	return r, returned, err
}

// GuardStop is to be called after each stop of the agent. returned says that the old version is current again, and has to be started: an
// end that systemd does not start a service again after (5, which says that a person has to mend something) would otherwise be the end.
// An end that starting again cannot mend is not waited for a second time.
func (u *Updater) GuardStop(s Stopped) (r Record, returned bool, err error) {
	r, _, err = u.underWay(func(r *Record) error {
		switch {
		case r.Starts == 0:
			return nil // What ended was the old version, to be replaced.
		case s.Result == "success":
			r.Starts = 0 // Somebody stopped it, or the host goes down: that says nothing against it.
			return u.cfg.State.save(*r)
		case s.hopeless():
			returned = true
			return u.back(r, fmt.Sprintf("version %s could not start: %s", r.To, s.said()))
		}
		r.Reason = "it ended: " + s.said()
		return u.cfg.State.save(*r)
	})
	return r, returned, err
}

// hopeless says that starting it again would end the same way: it hung, cannot be executed, or said itself that a person is needed.
func (s Stopped) hopeless() bool {
	switch {
	case s.Result == "timeout", s.Result == "watchdog":
		return true
	case s.Code != "exited":
		return false
	}
	return slices.Contains([]string{"5", "126", "127", "203"}, s.Status)
}

// Begin is what the agent calls when it starts: the update in which it has to prove itself, if that is so.
func (u *Updater) Begin() (r Record, pending bool, err error) {
	return u.underWay(func(*Record) error { return nil })
}

// Outcome is the last update as it stands now.
func (u *Updater) Outcome() (Record, error) { return u.cfg.State.Record() }

// Confirm ends an update well: the new version stays.
func (u *Updater) Confirm() (Record, error) {
	r, _, err := u.underWay(func(r *Record) error {
		r.Phase, r.Ended, r.Reason, r.Starts, r.Tasks = Confirmed, u.cfg.Now(), "", 0, nil
		return u.cfg.State.save(*r)
	})
	return r, err
}

// Return ends an update badly: the old version is current again. The caller ends, and is started as that one.
func (u *Updater) Return(reason string) (Record, error) {
	r, _, err := u.underWay(func(r *Record) error {
		r.Starts = 0
		return u.back(r, reason)
	})
	return r, err
}

// Took is how long the update took from the switch to its end.
func (r Record) Took() time.Duration { return r.Ended.Sub(r.At) }
