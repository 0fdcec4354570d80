// Signal handling of Argo's executor on Linux. The published module has this file for other systems only; the cluster
// tests add this one to a copy of the module and build argoexec from the copy.

package osspecific

import (
	"errors"
	"os"
	"syscall"

	executor "github.com/argoproj/argo-workflows/v3/util/errors"
)

// signalExitBase is added to the number of the signal that ended a process, as shells do.
const signalExitBase = 128

// Term asks a process to exit.
var Term = syscall.SIGTERM

// CanIgnoreSignal reports whether a signal is for the Go runtime and not for the command.
func CanIgnoreSignal(received os.Signal) bool {
	switch received {
	case syscall.SIGCHLD, syscall.SIGURG:
		return true
	}
	return false
}

// Setpgid makes a process the leader of a new process group.
func Setpgid(attributes *syscall.SysProcAttr) {
	attributes.Setpgid = true
}

// Kill sends a signal to the process group of a process.
func Kill(pid int, sent syscall.Signal) error {
	if group, err := syscall.Getpgid(pid); err == nil {
		pid = -group
	}
	return syscall.Kill(pid, sent)
}

// Wait waits for a process and returns its exit code as an error. The executor is process 1 of its container, so Wait
// also reaps every orphan that exits earlier.
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
			return executor.NewExitErr(signalExitBase + int(status.Signal()))
		}
		return executor.NewExitErr(status.ExitStatus())
	}
}
