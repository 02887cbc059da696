// Command gitlab-runner passes for GitLab Runner in tests, as far as a driver looks at it.
package main

import "fmt"

func main() { fmt.Println("Version:      19.0.0-fake") }
