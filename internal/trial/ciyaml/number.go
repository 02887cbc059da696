package ciyaml

import (
	"math/big"
	"strings"
)

// decimal writes an integer in YAML 1.1 notation as people read it.
func decimal(text string) string {
	sign, digits := "", strings.NewReplacer("_", "", ",", "").Replace(text)
	if strings.HasPrefix(digits, "-") {
		sign = "-"
	}
	digits = strings.TrimLeft(digits, "+-")
	base := 10
	switch {
	case strings.HasPrefix(digits, "0x"):
		base, digits = 16, digits[2:]
	case strings.HasPrefix(digits, "0b"):
		base, digits = 2, digits[2:]
	case len(digits) > 1 && digits[0] == '0':
		base = 8
	}
	n, ok := new(big.Int).SetString(digits, base)
	if !ok {
		return text
	}
	if n.Sign() == 0 {
		sign = ""
	}
	return sign + n.String()
}

// sexagesimal reads "H:MM" and "H:MM:SS" as a number in base 60.
func sexagesimal(text string) string {
	sign := ""
	if strings.HasPrefix(text, "-") {
		sign = "-"
	}
	sum := new(big.Int)
	for _, part := range strings.Split(strings.TrimLeft(strings.ReplaceAll(text, "_", ""), "+-"), ":") {
		n, ok := new(big.Int).SetString(part, 10)
		if !ok {
			return text
		}
		sum.Add(sum.Mul(sum, big.NewInt(60)), n)
	}
	return sign + sum.String()
}
