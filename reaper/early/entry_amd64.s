//go:build holdfast_entry

#include "textflag.h"

// See entry.go. The stack and the registers are as the kernel gave them (x86-64 psABI 3.4.1), and stay so for the runtime.
TEXT holdfast_entry(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVL	$14, AX			// rt_sigprocmask(2)
	MOVL	$2, DI			// SIG_SETMASK
	LEAQ	·every(SB), SI
	XORL	DX, DX
	MOVL	$8, R10
	SYSCALL
	LEAQ	runtime·sigtable(SB), R8
	CMPL	(1*24)(R8), $3		// SIGHUP: _SigNotify + _SigKill
	JNE	begin
	CMPL	(2*24)(R8), $3		// SIGINT
	JNE	begin
	CMPL	(3*24)(R8), $5		// SIGQUIT: _SigNotify + _SigThrow
	JNE	begin
	CMPL	(6*24)(R8), $5		// SIGABRT
	JNE	begin
	CMPL	(15*24)(R8), $3		// SIGTERM
	JNE	begin
	MOVL	$1, (1*24)(R8)		// _SigNotify
	MOVL	$1, (2*24)(R8)
	MOVL	$1, (3*24)(R8)
	MOVL	$1, (6*24)(R8)
	MOVL	$1, (15*24)(R8)
	MOVL	$1, ·spared(SB)
begin:
	XORL	DX, DX
	JMP	_rt0_amd64_linux(SB)

// func mend()
TEXT ·mend(SB),NOSPLIT,$0-0
	CMPL	·spared(SB), $1
	JNE	done
	LEAQ	runtime·sigtable(SB), R8
	MOVL	$3, (1*24)(R8)
	MOVL	$3, (2*24)(R8)
	MOVL	$5, (3*24)(R8)
	MOVL	$5, (6*24)(R8)
	MOVL	$3, (15*24)(R8)
done:
	RET

DATA ·every(SB)/8, $-1
GLOBL ·every(SB), NOPTR|RODATA, $8
