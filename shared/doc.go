// Package shared is the vocabulary that hosts and helpers have in common: hook points, classes, what a helper says of itself
// (Modinfo), what an operator asks of it (HelperSpec), verdicts, causes of failure and the error sentinels.
//
// It depends on the standard library only, so that anything may import it.
package shared
