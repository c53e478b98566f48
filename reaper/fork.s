// fork.go declares functions of the runtime without a body; the compiler takes that only beside assembly.
