#include "textflag.h"

// The kernel calls it with the signal in DI, siginfo_t in SI and ucontext_t in DX; RET goes to the restorer, which gives
// every register its old value back. There is no Go here: no stack but the signal's, no g.
TEXT ·handler(SB),NOSPLIT|NOFRAME,$0
	MOVL	DI, CX
	MOVL	8(SI), AX		// si_code
	CMPL	CX, $23			// SIGURG: the runtime's own is sent by tgkill, SI_TKILL
	JEQ	urgent
	CMPL	AX, $0			// sent by a process
	JLE	sent
	JMP	fault
urgent:
	CMPL	AX, $-6
	JNE	sent
fault:
	LEAQ	·chain(SB), R8
	MOVQ	(R8)(CX*8), AX
	TESTQ	AX, AX
	JEQ	sent
	JMP	AX			// as if the kernel had called it
sent:
	CMPL	DI, $18			// SIGCONT
	JNE	whose
	LOCK
	INCL	·continued(SB)
whose:
	MOVL	$186, AX		// gettid(2); it leaves SI and DX alone, and takes CX and R11
	SYSCALL
	MOVQ	·hold(SB), R8		// what a visit has the first thread block ...
	CMPL	AX, ·taker(SB)
	JEQ	visit
	MOVQ	·block(SB), R8		// ... and what any other does: this is the last that it takes
	ORQ	R8, 296(DX)		// uc_sigmask, which the restorer puts in place
visit:
	CMPL	8(SI), $-6		// tgkill(2) ...
	JNE	send
	MOVL	16(SI), AX
	CMPL	AX, ·taker(SB)		// ... by this process
	JNE	send
	CMPL	0(SI), $64		// a mark
	JEQ	send
	ORQ	R8, 296(DX)
	RET
send:
	MOVL	·output(SB), DI
	MOVL	$32, DX			// the size of Info, from SI
	MOVL	$1, AX			// write(2); the pipe does not block
	SYSCALL
	TESTQ	AX, AX
	JGE	told
	CMPL	0(SI), $18		// a full pipe: nobody will hear of this one
	JNE	told
	LOCK
	DECL	·continued(SB)
told:
	RET

TEXT ·restorer(SB),NOSPLIT|NOFRAME,$0
	MOVL	$15, AX			// rt_sigreturn(2)
	SYSCALL
	INT	$3			// not reached

// func call(number, a, b, c, d uintptr) (result uintptr)
TEXT ·call(SB),NOSPLIT,$0-48
	MOVQ	number+0(FP), AX
	MOVQ	a+8(FP), DI
	MOVQ	b+16(FP), SI
	MOVQ	c+24(FP), DX
	MOVQ	d+32(FP), R10
	SYSCALL
	MOVQ	AX, result+40(FP)
	RET

DATA ·handlerAddress(SB)/8, $·handler(SB)
GLOBL ·handlerAddress(SB), NOPTR, $8
DATA ·restorerAddress(SB)/8, $·restorer(SB)
GLOBL ·restorerAddress(SB), NOPTR, $8
