//go:build holdfast_entry

#include "textflag.h"

// See entry.go. The stack is as the kernel gave it, and stays so for the runtime.
TEXT holdfast_entry(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVD	$135, R8		// rt_sigprocmask(2)
	MOVD	$2, R0			// SIG_SETMASK
	MOVD	$·every(SB), R1
	MOVD	$0, R2
	MOVD	$8, R3
	SVC
	MOVD	$runtime·sigtable(SB), R4
	MOVWU	(1*24)(R4), R5		// SIGHUP: _SigNotify + _SigKill
	CMPW	$3, R5
	BNE	begin
	MOVWU	(2*24)(R4), R5		// SIGINT
	CMPW	$3, R5
	BNE	begin
	MOVWU	(3*24)(R4), R5		// SIGQUIT: _SigNotify + _SigThrow
	CMPW	$5, R5
	BNE	begin
	MOVWU	(6*24)(R4), R5		// SIGABRT
	CMPW	$5, R5
	BNE	begin
	MOVWU	(15*24)(R4), R5		// SIGTERM
	CMPW	$3, R5
	BNE	begin
	MOVD	$1, R5			// _SigNotify
	MOVW	R5, (1*24)(R4)
	MOVW	R5, (2*24)(R4)
	MOVW	R5, (3*24)(R4)
	MOVW	R5, (6*24)(R4)
	MOVW	R5, (15*24)(R4)
	MOVW	R5, ·spared(SB)
begin:
	MOVD	$0, R19
standard:
	MOVD	$25, R8			// fcntl(2)
	MOVD	R19, R0
	MOVD	$1, R1			// F_GETFD
	SVC
	CMN	$9, R0			// EBADF
	BNE	next
	MOVD	$56, R8			// openat(2), of an absolute path
	MOVD	$·null(SB), R1
	MOVD	$2, R2			// O_RDWR
	SVC
	CMP	$0, R0
	BGE	next
	MOVD	$20, R8			// epoll_create1(2)
	MOVD	$0, R0
	SVC
next:
	ADD	$1, R19
	CMP	$3, R19
	BNE	standard
	MOVD	$0, R0
	JMP	_rt0_arm64_linux(SB)

// func mend()
TEXT ·mend(SB),NOSPLIT,$0-0
	MOVWU	·spared(SB), R5
	CMPW	$1, R5
	BNE	done
	MOVD	$runtime·sigtable(SB), R4
	MOVD	$3, R5
	MOVD	$5, R6
	MOVW	R5, (1*24)(R4)
	MOVW	R5, (2*24)(R4)
	MOVW	R6, (3*24)(R4)
	MOVW	R6, (6*24)(R4)
	MOVW	R5, (15*24)(R4)
done:
	RET

DATA ·every(SB)/8, $-1
GLOBL ·every(SB), NOPTR|RODATA, $8
DATA ·null+0(SB)/8, $"/dev/nul"
DATA ·null+8(SB)/8, $"l\x00\x00\x00\x00\x00\x00\x00"
GLOBL ·null(SB), NOPTR|RODATA, $16
