package launch

import (
	"bytes"
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"syscall"

	"github.com/khelp/khelp/shared"
)

// headBytes is what is read of a file to find out what it is; the kernel looks at 256 bytes of a script.
const headBytes = 4096

// diagnose finds out why the kernel refused to run path with err. It looks after the refusal, not before, because only the kernel
// knows what it can run: with binfmt_misc a program for another machine may be fine.
func diagnose(path string, err error) *Error {
	head, readErr := readHead(path)
	if readErr != nil {
		return fail(ReasonExec, wrapErrno(err, "cannot run %s", path))
	}
	host := runtime.GOOS + "/" + runtime.GOARCH
	switch {
	case len(head) == 0:
		return failf(ReasonFormat, shared.ErrNoExec, "%s is empty", path)
	case bytes.HasPrefix(head, []byte("#!")):
		return diagnoseScript(path, head, err)
	}
	target, known := builtFor(path, head)
	switch {
	case known && target == "":
		return failf(ReasonFormat, shared.ErrNoExec, "%s is a damaged program file: %w", path, err)
	case known && target != host:
		return failf(ReasonArch, shared.ErrNoExec, "%s is built for %s, this host is %s: %w", path, target, host, err)
	case known && errors.Is(err, fs.ErrNotExist):
		if loader := elfLoader(path); loader != "" {
			return unusable(err, "%s needs the loader %s, which does not exist", path, loader)
		}
	case errors.Is(err, syscall.ENOEXEC):
		return failf(ReasonFormat, shared.ErrNoExec, "%s is neither a program for %s nor a script (it has no #! line): %w", path, host, err)
	case errors.Is(err, fs.ErrPermission):
		return fail(ReasonMode, wrapErrno(err, "%s may not be run (its mode, or a file system mounted noexec)", path))
	}
	return fail(ReasonExec, wrapErrno(err, "cannot run %s", path))
}

func readHead(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, headBytes))
}

func diagnoseScript(path string, head []byte, err error) *Error {
	line, _, _ := bytes.Cut(head[2:], []byte("\n"))
	interpreter, _, _ := strings.Cut(strings.TrimLeft(string(line), " \t"), " ")
	if interpreter == "" {
		return failf(ReasonInterpreter, shared.ErrNoExec, "script %s names no interpreter after #!: %w", path, err)
	}
	hint := ""
	if strings.HasSuffix(interpreter, "\r") {
		hint = " (its lines end in CR LF)"
	}
	if _, statErr := os.Stat(interpreter); statErr != nil {
		return unusable(err, "script %s needs the interpreter %q, which does not exist%s", path, interpreter, hint)
	}
	if errors.Is(err, fs.ErrNotExist) { // the interpreter is a script or a program that lacks something itself
		return unusable(err, "script %s cannot run its interpreter %q", path, interpreter)
	}
	return fail(ReasonInterpreter, wrapErrno(err, "script %s cannot run its interpreter %q", path, interpreter))
}

// builtFor returns the system that a program file was built for as GOOS/GOARCH. known is false if it is no program file; a program
// file that cannot be understood is known and "".
func builtFor(path string, head []byte) (target string, known bool) {
	switch {
	case bytes.HasPrefix(head, []byte(elf.ELFMAG)):
		return elfTarget(head), true
	case bytes.HasPrefix(head, []byte("MZ")):
		return peTarget(path), true
	case len(head) >= 4 && isMachO(binary.LittleEndian.Uint32(head), binary.BigEndian.Uint32(head)):
		return machoTarget(path), true
	}
	return "", false
}

// elfTarget reads the header alone: packed programs without a section table run, and debug/elf.NewFile refuses some of them.
func elfTarget(head []byte) string {
	if len(head) < 20 {
		return ""
	}
	var order binary.ByteOrder = binary.LittleEndian
	little := elf.Data(head[elf.EI_DATA]) != elf.ELFDATA2MSB
	if !little {
		order = binary.BigEndian
	}
	wide := elf.Class(head[elf.EI_CLASS]) == elf.ELFCLASS64
	system := "linux"
	switch elf.OSABI(head[elf.EI_OSABI]) {
	case elf.ELFOSABI_FREEBSD:
		system = "freebsd"
	case elf.ELFOSABI_NETBSD:
		system = "netbsd"
	case elf.ELFOSABI_OPENBSD:
		system = "openbsd"
	case elf.ELFOSABI_SOLARIS:
		system = "solaris"
	}
	return system + "/" + elfArch(elf.Machine(order.Uint16(head[18:])), wide, little)
}

func elfArch(machine elf.Machine, wide, little bool) string {
	switch machine {
	case elf.EM_X86_64:
		return "amd64"
	case elf.EM_386:
		return "386"
	case elf.EM_AARCH64:
		return "arm64"
	case elf.EM_ARM:
		return "arm"
	case elf.EM_RISCV:
		return "riscv64"
	case elf.EM_S390:
		return "s390x"
	case elf.EM_LOONGARCH:
		return "loong64"
	case elf.EM_PPC64:
		return "ppc64" + suffix(little)
	case elf.EM_MIPS:
		if wide {
			return "mips64" + suffix(little)
		}
		return "mips" + suffix(little)
	}
	return strings.ToLower(strings.TrimPrefix(machine.String(), "EM_"))
}

func suffix(little bool) string {
	if little {
		return "le"
	}
	return ""
}

// elfLoader returns the dynamic loader that an ELF file asks for if that loader does not exist, or "".
func elfLoader(path string) string {
	f, err := elf.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	for _, prog := range f.Progs {
		if prog.Type != elf.PT_INTERP || prog.Filesz > headBytes {
			continue
		}
		name, err := io.ReadAll(prog.Open())
		if err != nil {
			return ""
		}
		loader := strings.TrimRight(string(name), "\x00")
		if _, err := os.Stat(loader); err != nil {
			return loader
		}
	}
	return ""
}

func isMachO(little, big uint32) bool {
	return little == macho.Magic32 || little == macho.Magic64 || big == macho.Magic32 || big == macho.Magic64 || big == macho.MagicFat
}

func machoTarget(path string) string {
	if fat, err := macho.OpenFat(path); err == nil {
		defer func() { _ = fat.Close() }()
		var arches []string
		for _, arch := range fat.Arches {
			if machoArch(arch.Cpu) == runtime.GOARCH {
				return "darwin/" + runtime.GOARCH
			}
			arches = append(arches, machoArch(arch.Cpu))
		}
		return "darwin/" + strings.Join(arches, "+")
	}
	f, err := macho.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	return "darwin/" + machoArch(f.Cpu)
}

func machoArch(cpu macho.Cpu) string {
	switch cpu {
	case macho.CpuAmd64:
		return "amd64"
	case macho.CpuArm64:
		return "arm64"
	case macho.Cpu386:
		return "386"
	}
	return strings.ToLower(strings.TrimPrefix(cpu.String(), "Cpu"))
}

func peTarget(path string) string {
	f, err := pe.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	switch f.Machine {
	case pe.IMAGE_FILE_MACHINE_AMD64:
		return "windows/amd64"
	case pe.IMAGE_FILE_MACHINE_ARM64:
		return "windows/arm64"
	case pe.IMAGE_FILE_MACHINE_I386:
		return "windows/386"
	case pe.IMAGE_FILE_MACHINE_ARMNT, pe.IMAGE_FILE_MACHINE_ARM:
		return "windows/arm"
	}
	return "windows/unknown"
}
