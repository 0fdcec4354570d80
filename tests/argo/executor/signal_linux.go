// The executor's side of Linux signals. The published module has this file for other systems only; it is added to a
// copy of the module, from which argoexec is built.

package osspecific

import (
	"errors"
	"os"
	"syscall"

	executor "github.com/argoproj/argo-workflows/v3/util/errors"
)

// killed is what a shell adds to the number of the signal that ended a process.
const killed = 128

// Term asks a process to end.
var Term = syscall.SIGTERM

// CanIgnoreSignal tells whether a signal is the runtime's own business and not the command's.
func CanIgnoreSignal(received os.Signal) bool {
	switch received {
	case syscall.SIGCHLD, syscall.SIGURG:
		return true
	}
	return false
}

// Setpgid makes a process the leader of a group of its own.
func Setpgid(attributes *syscall.SysProcAttr) {
	attributes.Setpgid = true
}

// Kill sends a signal to a process and to all that it started in its group.
func Kill(pid int, sent syscall.Signal) error {
	if group, err := syscall.Getpgid(pid); err == nil {
		pid = -group
	}
	return syscall.Kill(pid, sent)
}

// Wait returns when the process has ended, as an error with its exit code. As process 1 of its container it also
// collects every orphan that ends before.
func Wait(process *os.Process) error {
	pid := process.Pid
	if err := process.Release(); err != nil {
		return err
	}
	for {
		var status syscall.WaitStatus
		ended, err := syscall.Wait4(-1, &status, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if ended != pid {
			continue
		}
		if status.Signaled() {
			return executor.NewExitErr(killed + int(status.Signal()))
		}
		return executor.NewExitErr(status.ExitStatus())
	}
}
