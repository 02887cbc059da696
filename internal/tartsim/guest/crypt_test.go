package guest

import "testing"

// The vectors are those of the specification, https://www.akkadia.org/drepper/SHA-crypt.txt.
func TestSHA512Crypt(t *testing.T) {
	for _, test := range []struct {
		password, salt string
		rounds         int
		want           string
	}{
		{
			"Hello world!", "saltstringsaltst", 10000,
			"$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.",
		},
		{
			"we have a short salt string but not a short password", "short", 77777,
			"$6$rounds=77777$short$WuQyW2YR.hBNpjjRhpYD/ifIw05xdfeEyQoMxIXbkvr0gge1a1x3yRULJ5CCaUeOxFmtlcGZelFl5CxtgfiAc0",
		},
		{
			"the minimum number is still observed", "roundstoolow", 1000,
			"$6$rounds=1000$roundstoolow$kUMsbe306n21p9R.FRkW3IGn.S9NPN0x50YhH1xhLsPuWGsUSklZt58jaTfF4ZEQpyUNGc0dqbpBYYBaHHrsX.",
		},
	} {
		if got := sha512Crypt(test.password, test.salt, test.rounds); got != test.want {
			t.Errorf("sha512Crypt(%q, %q, %d) = %s, want %s", test.password, test.salt, test.rounds, got, test.want)
		}
	}
}
