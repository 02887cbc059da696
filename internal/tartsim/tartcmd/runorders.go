package tartcmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"gitlab-runner-tart-driver/internal/tartsim/guest"
	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// Verbs are what can be done to a running VM from outside, see Order.
func Verbs() []string {
	return []string{"poweroff", "shutdown", "crash", "disconnect", "kill", "powercut", "freeze", "thaw", "unplug", "plug"}
}

type simOrder struct {
	verb   string
	answer func(error)
}

type simRequest struct {
	Verb string `json:"verb"`
}

type simReply struct {
	Error string `json:"error,omitempty"`
}

// serveOrders opens the socket by which `tartsim poweroff` and its like reach this run.
func (r *runner) serveOrders() error {
	path := r.vm.Path(tarthome.SocketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	listener, err := guest.ListenUnix(path, 0o600)
	if err != nil {
		return err
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				var request simRequest
				if json.NewDecoder(conn).Decode(&request) != nil {
					return
				}
				answered := make(chan error, 1)
				r.orders <- simOrder{verb: request.Verb, answer: func(err error) { answered <- err }}
				reply := simReply{}
				if err := <-answered; err != nil {
					reply.Error = err.Error()
				}
				_ = json.NewEncoder(conn).Encode(reply)
			}()
		}
	}()
	return nil
}

// obey carries out an order. Those that end the run are answered by its end: the connection breaks when the process is gone.
func (r *runner) obey(o simOrder) (int, bool) {
	switch o.verb {
	case "poweroff":
		return r.endWith("poweroff"), true
	case "crash":
		return r.endWith("error"), true
	case "disconnect":
		return r.endWith("network"), true
	case "kill":
		return r.endWith("killed"), true
	case "powercut":
		// Refused where it would not be silent.
		if err := r.machine.Unplug(); err != nil {
			o.answer(err)
			return 0, false
		}
		r.powerCut()
	case "shutdown":
		o.answer(r.machine.Shutdown())
	case "freeze":
		r.machine.Freeze()
		o.answer(nil)
	case "thaw":
		r.machine.Thaw()
		o.answer(nil)
	case "unplug":
		o.answer(r.machine.Unplug())
	case "plug":
		o.answer(r.machine.Plug())
	default:
		o.answer(fmt.Errorf("unknown order %q, known: %q", o.verb, Verbs()))
	}
	return 0, false
}

// Order has something done to a running VM and returns when it is done; orders that end the VM when its `tart run` has ended.
func Order(vm *tarthome.VM, verb string) error {
	if !slices.Contains(Verbs(), verb) {
		return fmt.Errorf("unknown order %q, known: %q", verb, Verbs())
	}
	conn, err := guest.DialUnix(vm.Path(tarthome.SocketName))
	if err != nil {
		return fmt.Errorf("VM %q doesn't run: %w", vm.Name, err)
	}
	defer func() { _ = conn.Close() }()
	if err := json.NewEncoder(conn).Encode(simRequest{Verb: verb}); err != nil {
		return fmt.Errorf("VM %q: %s: %w", vm.Name, verb, err)
	}
	var reply simReply
	if err := json.NewDecoder(conn).Decode(&reply); err != nil {
		return nil // the run has ended
	}
	if reply.Error != "" {
		return fmt.Errorf("VM %q: %s: %s", vm.Name, verb, reply.Error)
	}
	return nil
}
