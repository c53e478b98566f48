module goactivation

go 1.26

require github.com/coreos/go-systemd/v22 v22.7.0
