module github.com/khelp/khelp/ci/tools/buf

go 1.26.0
