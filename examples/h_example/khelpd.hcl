# khelpd with the example helper in front of a web server. From the repository root, after `make build`:
#
#     bin/khelpd run -c examples/h_example/khelpd.hcl
#
# Paths are relative to this file.

khelpd {
  control_socket = "../../bin/khelpd.sock" # `khelpd stat` and its sisters connect here
  helper_path    = ["../../bin"]           # helpers are looked up here by name
}

# Found on helper_path by its label. `khelpd load` and `khelpd unload` would do while khelpd runs; this loads it from the start.
helper "h_example" {
  version = "~> 1.0" # any 1.x

  # How long an answer may take before the call counts as missed. No connection waits for it, since both points are asynchronous, so there
  # is time for a machine that is busy. Where a connection does wait, keep it short; 200ms is the default.
  timeout = "5s"

  # The blocks below are optional and say what holds anyway: an observer that fails stops nobody.
  hook "tcp.est_in" {
    on_failure = "open"
  }
  hook "tcp.est_out" {
    on_failure = "open"
  }
}

# The TCP subsystem: takes connections on one port and passes them to another, and exports the points that the helper hooks.
tcp "web" {
  listen   = "127.0.0.1:8080"
  upstream = "127.0.0.1:9000"
}
