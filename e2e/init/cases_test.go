package inits

// cases are all of them, in the order of the table.
func cases() (all []testCase) {
	for _, more := range [][]testCase{
		signalCases(), moreSignalCases(), exitCases(), startCases(), childCases(), reapCases(), terminalCases(), endCases(), restCases(),
	} {
		all = append(all, more...)
	}
	return all
}
