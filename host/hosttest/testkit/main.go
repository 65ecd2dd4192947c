package testkit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// programFlag comes before the name of a program, as the first argument of the test binary.
const programFlag = "-program="

// tempVars say where temporary files go, on one system or another.
var tempVars = []string{"TMPDIR", "TMP", "TEMP"}

// Runner runs tests, as *testing.M does.
type Runner interface{ Run() int }

// Programs are what a test binary becomes when it is started by Command, by name. A program that returns has ended well; its arguments
// are os.Args[1:].
type Programs map[string]func()

// Command returns the command line that runs this test binary as one of the programs given to Main.
func Command(name string, args ...string) []string {
	return append([]string{os.Args[0], programFlag + name}, args...)
}

// Main is the body of TestMain: it runs the tests and fails if they leave something behind, as Checked does, or runs one of the
// programs. It does not return.
func Main(m Runner, programs ...Programs) {
	if len(os.Args) > 1 {
		if name, ok := strings.CutPrefix(os.Args[1], programFlag); ok {
			os.Args = append(os.Args[:1:1], os.Args[2:]...)
			os.Exit(become(name, programs))
		}
	}
	os.Exit(Checked(m).Run())
}

func become(name string, programs []Programs) int {
	for _, set := range programs {
		if run := set[name]; run != nil {
			run()
			return 0
		}
	}
	fmt.Fprintf(os.Stderr, "no program %q\n", name)
	return 2
}

// Checked returns a Runner that gives the tests of m a directory of their own for temporary files, and fails if goroutines, open file
// descriptors, shared memory, processes started (also those that lost their parent) or temporary files are left when they have passed.
// Descriptors, memory and processes are seen where /proc tells of them.
func Checked(m Runner) Runner { return checked{m, leakPatience} }

type checked struct {
	tests    Runner
	patience time.Duration // with what is about to end
}

func (c checked) Run() int {
	if isFuzzWorker() {
		return c.tests.Run() // it is killed and started again at will, by a process that is checked
	}
	undo, err := ownTemp()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	before := look()
	code := c.tests.Run()
	if code == 0 { // tests that fail leave things, and have said why
		if err := before.settle(c.patience); err != nil {
			fmt.Fprintln(os.Stderr, "the tests leave something behind:", err)
			code = 1
		}
	}
	if err := undo(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	return code
}

func isFuzzWorker() bool {
	for _, arg := range os.Args[1:] {
		if strings.HasPrefix(strings.TrimLeft(arg, "-"), "test.fuzzworker") {
			return true
		}
	}
	return false
}

// own is what ownTemp has made. It is written by TestMain alone, before and after the tests.
var own struct {
	temp   string // the directory for temporary files, empty in the end
	shared string
}

// SharedDir is a directory for what the tests of a package share, such as programs they build. Main and Checked make and remove it;
// without them there is none, and it panics.
func SharedDir() string {
	if own.shared == "" {
		panic("testkit.SharedDir without testkit.Main")
	}
	return own.shared
}

// ownTemp makes a directory for temporary files that nobody else uses, also in the programs that tests start, and returns how to undo it.
func ownTemp() (undo func() error, err error) {
	base := os.TempDir()
	if runtime.GOOS != "windows" && len(base) > len("/var/tmp") {
		base = "/tmp" // paths of sockets end at 103 bytes, and on some systems the usual directory has half of them
	}
	root, err := os.MkdirTemp(base, "kt-")
	if err != nil {
		return nil, err
	}
	own.temp, own.shared = filepath.Join(root, "t"), filepath.Join(root, "shared")
	before := map[string]string{}
	for _, name := range tempVars {
		if value, set := os.LookupEnv(name); set {
			before[name] = value
		}
		err = errors.Join(err, os.Setenv(name, own.temp))
	}
	undo = func() error {
		own.temp, own.shared = "", ""
		errs := []error{os.RemoveAll(root)}
		for _, name := range tempVars {
			if value, set := before[name]; set {
				errs = append(errs, os.Setenv(name, value))
			} else {
				errs = append(errs, os.Unsetenv(name))
			}
		}
		return errors.Join(errs...)
	}
	// Tests that act as another user get through, to what they open to it.
	if err = errors.Join(err, os.Chmod(root, 0o711), os.Mkdir(own.temp, 0o711), os.Mkdir(own.shared, 0o711)); err != nil {
		return nil, errors.Join(err, undo())
	}
	return undo, nil
}
