//go:build !linux

package testkit

func openFiles() map[string]int { return nil }

func describeFile(target string) string { return target }

func processes() map[int]string { return nil }
