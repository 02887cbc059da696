package guest

import (
	"crypto/rand"
	"crypto/sha512"
	"fmt"
	"hash"
)

// cryptRounds is the least number of rounds SHA-crypt allows: guests' passwords need to be checked quickly, not kept well.
const cryptRounds = 1000

const cryptAlphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// cryptPassword hashes a password for /etc/shadow with a random salt.
func cryptPassword(password string) string {
	salt := make([]byte, 12)
	_, _ = rand.Read(salt) // never fails, see crypto/rand
	for i := range salt {
		salt[i] = cryptAlphabet[int(salt[i])%len(cryptAlphabet)]
	}
	return sha512Crypt(password, string(salt), cryptRounds)
}

// sha512Crypt is the scheme "$6$" of crypt(3), see https://www.akkadia.org/drepper/SHA-crypt.txt.
func sha512Crypt(password, salt string, rounds int) string {
	key, saltBytes := []byte(password), []byte(salt)

	inner := sha512.New()
	write(inner, key, saltBytes, key)
	b := inner.Sum(nil)

	outer := sha512.New()
	write(outer, key, saltBytes, stretch(b, len(key)))
	for n := len(key); n > 0; n >>= 1 {
		if n&1 == 1 {
			write(outer, b)
		} else {
			write(outer, key)
		}
	}
	a := outer.Sum(nil)

	keyHash := sha512.New()
	for range key {
		write(keyHash, key)
	}
	p := stretch(keyHash.Sum(nil), len(key))

	saltHash := sha512.New()
	for i := 0; i < 16+int(a[0]); i++ {
		write(saltHash, saltBytes)
	}
	s := stretch(saltHash.Sum(nil), len(saltBytes))

	for i := 0; i < rounds; i++ {
		a = cryptRound(i, a, p, s)
	}
	return fmt.Sprintf("$6$rounds=%d$%s$%s", rounds, salt, cryptEncode(a))
}

func cryptRound(i int, a, p, s []byte) []byte {
	round := sha512.New()
	if i%2 == 1 {
		write(round, p)
	} else {
		write(round, a)
	}
	if i%3 != 0 {
		write(round, s)
	}
	if i%7 != 0 {
		write(round, p)
	}
	if i%2 == 1 {
		write(round, a)
	} else {
		write(round, p)
	}
	return round.Sum(nil)
}

func write(h hash.Hash, parts ...[]byte) {
	for _, part := range parts {
		_, _ = h.Write(part) // a hash never fails to write
	}
}

// stretch repeats a digest to the wanted length.
func stretch(digest []byte, length int) []byte {
	out := make([]byte, 0, length+len(digest))
	for len(out) < length {
		out = append(out, digest...)
	}
	return out[:length]
}

// cryptEncode writes the digest in crypt(3)'s order and alphabet: triples whose indices rotate by 21.
func cryptEncode(a []byte) string {
	var out []byte
	emit := func(value uint, count int) {
		for ; count > 0; count-- {
			out = append(out, cryptAlphabet[value&0x3f])
			value >>= 6
		}
	}
	x, y, z := 0, 21, 42
	for range 21 {
		emit(uint(a[x])<<16|uint(a[y])<<8|uint(a[z]), 4)
		x, y, z = y+1, z+1, x+1
	}
	emit(uint(a[63]), 2)
	return string(out)
}
