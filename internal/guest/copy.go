package guest

// The programs below copy files. Like all programs they are one line each, without single quotes.

// homePath lets a path begin with ~.
const homePath = `p=$1; case $p in "~") p=$HOME;; "~/"*) p=$HOME/${p#??};; esac; `

// FetchProgram writes a file or directory to stdout as a tar archive, a directory by names relative to it, behind a line that is $2 and d or f: a
// login shell may print something first. macOS's tar would add a file of metadata to every file.
//
//	$1 path  $2 mark
const FetchProgram = homePath + `COPYFILE_DISABLE=1; export COPYFILE_DISABLE; ` +
	`if [ -d "$p" ]; then cd "$p" || exit 1; echo; echo "$2"d; tar -cf - .; ` +
	`elif [ -f "$p" ]; then cd "$(dirname -- "$p")" || exit 1; echo; echo "$2"f; tar -chf - "./$(basename -- "$p")"; ` +
	`else echo "$p: no such file or directory in the VM" >&2; exit 1; fi; exit $?`

// StoreProgram takes a file, or a tar archive with what is in a directory, from stdin. In a directory that is there it makes one of the given name.
//
//	$1 path  $2 name  $3 d or f  $4 size of the file in bytes  $5 its mode
const StoreProgram = homePath + `if [ -d "$p" ]; then p=${p%/}/$2; fi; ` +
	`if [ $3 = d ]; then mkdir -p -- "$p" && cd "$p" && tar -xof -; s=$?; cat > /dev/null; exit $s; fi; ` +
	`cat > "$p" || exit 1; [ $(wc -c < "$p") -eq $4 ] || { echo "$p: only a part has arrived" >&2; exit 1; }; chmod $5 "$p"; exit $?`
