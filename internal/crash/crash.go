// Package crash names the moments at which a process of the driver may die, for tests that let it die there.
//
// In the product, Point does nothing. Built with the tag `crashpoints`, it obeys a file beside the executable; see armed.go.
package crash
