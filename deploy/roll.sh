#!/bin/sh
# roll.sh SELECTOR [COMMAND…]: hands over the pods of a selector one after the other, and after each one runs the command,
# with the pod's name as its last word. It stops at the first pod whose handoff fails, or whose command does not exit 0; the
# pods that have not had their turn go on with what they have. The pods are of components/roll.
#
#   kubectl apply -f configmap.yaml
#   deploy/roll.sh app.kubernetes.io/name=nginx ./smoke-test.sh
#
# Needs kubectl (the namespace and cluster of its context) and jq. HOLDFAST names holdfast's binary in the container.
set -eu
[ $# -ge 1 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
selector=$1
shift
holdfast=${HOLDFAST:-holdfast}
patience=${PATIENCE:-180} # seconds, for each pod

# ended POD: when the last handoff by a watched path ended, and how.
ended() {
	kubectl exec "$1" -c server -- "$holdfast" status -o json |
		jq -r '[(.recent // [])[] | select(.trigger == "watch")] | last | if . then "\(.ended) \(.result) \(.reason // "")" else "none" end'
}

for pod in $(kubectl get pods -l "$selector" -o 'jsonpath={.items[*].metadata.name}'); do
	before=$(ended "$pod")
	# The kubelet writes the annotation and the ConfigMap into the pod in one go, at once.
	kubectl annotate pod "$pod" "holdfast/reload=$(date +%s)" --overwrite >/dev/null
	waited=0
	while now=$(ended "$pod") && [ "$now" = "$before" ]; do
		[ "$waited" -lt "$patience" ] || { echo "roll.sh: $pod: no handoff within $patience s" >&2; exit 1; }
		sleep 1
		waited=$((waited + 1))
	done
	case $now in
	*" completed "*) echo "$pod: handed over" ;;
	*) echo "roll.sh: $pod: the handoff failed, and its old generation serves on: ${now#* }" >&2; exit 1 ;;
	esac
	[ $# -eq 0 ] || "$@" "$pod" || { echo "roll.sh: $pod: the check failed; it serves with the new configuration" >&2; exit 1; }
done
