// Package config reads khelp's configuration, written in HCL, into the types that the rest of khelp works with: shared.HelperSpec
// for each helper block, and plain structs for the daemon and its TCP proxies.
//
// What is wrong with a configuration is told in diagnostics: each has a file, a line, the line itself and, for a near miss, a
// suggestion. All that is wrong in all files is told in one go. Nothing is ever ignored: an unknown block, attribute or map key is an
// error, one that this version of khelp does not support yet as well.
//
// REFERENCE.md tells operators every word of the language; tests hold it against the code.
//
// The package decodes HCL's syntax tree by itself instead of through gohcl, which turns a number into a string where a string is
// wanted, drops the place of list elements and map keys, and knows nothing of attributes that are spelled right but not supported.
//
// The functions of this package may be called by multiple goroutines; a *Config is not changed by any of its methods.
package config
