package testkit

import (
	"net"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// kept keeps files open: one that nobody refers to is closed by the garbage collector.
var kept []any

func leak(name, want string, leave func() error) {
	leaks[name] = struct {
		leave func() error
		want  string
	}{leave, want}
}

func init() {
	leak("file", "open: /dev/null (1)", func() error {
		f, err := os.Open(os.DevNull)
		kept = append(kept, f)
		return err
	})
	leak("socket", " 127.0.0.1:", func() error {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		kept = append(kept, lis)
		return err
	})
	leak("pipe", "open: pipe:[", func() error {
		r, w, err := os.Pipe()
		kept = append(kept, r, w)
		return err
	})
	leak("shared memory", "open: shared memory /memfd:ring", func() error {
		fd, err := unix.MemfdCreate("ring", unix.MFD_CLOEXEC)
		if err != nil {
			return err
		}
		if err := unix.Ftruncate(fd, 4096); err != nil {
			return err
		}
		if _, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ, unix.MAP_SHARED); err != nil {
			return err
		}
		return unix.Close(fd)
	})
	leak("child", "-program=hold", func() error {
		argv := Command("hold")
		cmd := exec.Command(argv[0], argv[1:]...)
		in, out, err := os.Pipe()
		if err != nil {
			return err
		}
		unix.CloseOnExec(int(out.Fd()))
		cmd.Stdin = in // it ends with this process, which has the other end
		kept = append(kept, cmd, out)
		return cmd.Start()
	})
	leak("zombie", "nobody has waited for it", func() error {
		argv := Command("args")
		cmd := exec.Command(argv[0], argv[1:]...)
		kept = append(kept, cmd)
		if err := cmd.Start(); err != nil {
			return err
		}
		return unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
	})
	leak("orphan", ": sh -c read x <&3", func() error {
		in, out, err := os.Pipe()
		if err != nil {
			return err
		}
		kept = append(kept, in, out)
		cmd := exec.Command("sh", "-c", "sh -c 'read x <&3' & exit 0")
		cmd.ExtraFiles = []*os.File{in}
		return cmd.Run()
	})
}
