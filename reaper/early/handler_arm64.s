#include "textflag.h"

// The kernel calls it with the signal in R0, siginfo_t in R1 and ucontext_t in R2; RET goes to the vDSO, which gives every
// register its old value back. There is no Go here: no stack but the signal's, no g.
TEXT ·handler(SB),NOSPLIT|NOFRAME,$0
	MOVW	8(R1), R3		// si_code
	CMPW	$23, R0			// SIGURG: the runtime's own is sent by tgkill, SI_TKILL
	BEQ	urgent
	CMPW	$0, R3			// sent by a process
	BLE	sent
	B	fault
urgent:
	CMNW	$6, R3			// equal to -6
	BNE	sent
fault:
	MOVD	$·chain(SB), R4
	MOVWU	R0, R5
	ADD	R5<<3, R4
	MOVD	(R4), R4
	CBZ	R4, sent
	B	(R4)			// as if the kernel had called it
sent:
	CMPW	$18, R0			// SIGCONT
	BNE	whose
	MOVD	$·continued(SB), R4
count:
	LDAXRW	(R4), R5
	ADDW	$1, R5
	STLXRW	R5, (R4), R6
	CBNZ	R6, count
whose:
	MOVD	$178, R8		// gettid(2); it leaves all but R0 alone
	SVC
	MOVW	·taker(SB), R4
	MOVD	40(R2), R6		// uc_sigmask, which the vDSO's sigreturn puts in place
	MOVD	·hold(SB), R5		// what a visit has the first thread block ...
	CMPW	R4, R0
	BEQ	visit
	MOVD	·block(SB), R5		// ... and what any other does: this is the last that it takes
	ORR	R5, R6
	MOVD	R6, 40(R2)
visit:
	CMNW	$6, R3			// tgkill(2) ...
	BNE	send
	MOVW	16(R1), R7
	CMPW	R4, R7			// ... by this process
	BNE	send
	MOVW	0(R1), R7
	CMPW	$64, R7			// a mark
	BEQ	send
	ORR	R5, R6
	MOVD	R6, 40(R2)
	RET
send:
	MOVW	·output(SB), R0
	MOVD	$32, R2			// the size of Info, from R1
	MOVD	$64, R8			// write(2); the pipe does not block
	SVC
	CMP	$0, R0
	BGE	told
	MOVW	0(R1), R4		// a full pipe: nobody will hear of this one
	CMPW	$18, R4
	BNE	told
	MOVD	$·continued(SB), R4
uncount:
	LDAXRW	(R4), R5
	SUBW	$1, R5
	STLXRW	R5, (R4), R6
	CBNZ	R6, uncount
told:
	RET

// func call(number, a, b, c, d uintptr) (result uintptr)
TEXT ·call(SB),NOSPLIT,$0-48
	MOVD	number+0(FP), R8
	MOVD	a+8(FP), R0
	MOVD	b+16(FP), R1
	MOVD	c+24(FP), R2
	MOVD	d+32(FP), R3
	SVC
	MOVD	R0, result+40(FP)
	RET

DATA ·handlerAddress(SB)/8, $·handler(SB)
GLOBL ·handlerAddress(SB), NOPTR, $8
