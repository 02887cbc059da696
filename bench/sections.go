package main

import "context"

// section is a part of the benchmark that can be run alone.
type section struct {
	name, about string
	run         func(*bench, context.Context) error
}

// sections are all of them, in their order.
func sections() []section {
	return []section{
		{"size", "the binary", (*bench).measureSize},
		{"config", "the config stage, beside an empty Go program", (*bench).measureConfig},
		{"jobs", "whole jobs, with three boot delays", (*bench).measureJobs},
		{"processes", "all programs that a job starts", (*bench).measureProcesses},
		{"run", "single scripts, beside ssh", (*bench).measureRun},
		{"output", "the job log, beside ssh", (*bench).measureOutput},
		{"keeper", "what stays between stages", (*bench).measureKeeper},
		{"leftovers", "jobs on a host with a long past", (*bench).measureLeftovers},
		{"many", "jobs at once", (*bench).measureMany},
	}
}

func sectionNames() []string {
	var names []string
	for _, s := range sections() {
		names = append(names, s.name)
	}
	return names
}
