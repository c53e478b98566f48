package status

import (
	"net/url"
	"strings"
)

// hidden stands for what is not shown.
const hidden = "…"

// Public returns a command line as everybody who can reach the probe address may read it: the values of words whose name
// says that they are secret, and passwords in URLs, are left out. What a program is given in its environment is never
// shown; that is where a secret belongs.
func Public(command []string) []string {
	public := make([]string, len(command))
	for i, word := range command {
		name, _, valued := strings.Cut(word, "=")
		switch {
		case valued && secret(name):
			public[i] = name + "=" + hidden
		case i > 0 && secret(command[i-1]) && strings.HasPrefix(command[i-1], "-") && !strings.Contains(command[i-1], "=") && !strings.HasPrefix(word, "-"):
			public[i] = hidden
		default:
			public[i] = withoutPassword(word)
		}
	}
	return public
}

func secret(name string) bool {
	name = strings.ToLower(name)
	for _, word := range []string{"password", "passwd", "passphrase", "secret", "token", "apikey", "api-key", "api_key", "credential"} {
		if strings.Contains(name, word) {
			return !strings.HasSuffix(name, "file") && !strings.HasSuffix(name, "path")
		}
	}
	return false
}

// withoutPassword hides the password of a URL, wherever in the word that begins.
func withoutPassword(word string) string {
	scheme := strings.Index(word, "://")
	if scheme < 0 {
		return word
	}
	begin := strings.LastIndexAny(word[:scheme], "= ,") + 1
	u, err := url.Parse(word[begin:])
	if err != nil {
		return word[:begin] + hidden
	}
	if _, has := u.User.Password(); !has {
		return word
	}
	user, rest, _ := strings.Cut(word[scheme+3:], ":")
	if at := strings.LastIndex(rest, "@"); at >= 0 {
		return word[:scheme+3] + user + ":" + hidden + rest[at:]
	}
	return word[:begin] + hidden
}
