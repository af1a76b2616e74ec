"""What the eleven steps ask a language model. Fields come back in tags; VALUE_ONE and VALUE_TWO stand for the
variables."""

from __future__ import annotations

ONE, TWO = "VALUE_ONE", "VALUE_TWO"

EXTRACT_FIRST = f"""You are given a mathematics problem with its final answer. Derive one number from the final answer.

How to choose the number:
- The answer has no unknown: use a plain number as it stands (keep pi, roots and fractions in lowest terms exact). Of
  several
  numbers use the largest. Of an interval use a finite end. Of a ratio use its first part in lowest terms. Of a
  numeral in
  another base use the number of its digits. Of an angle use its radians.
- The answer has an unknown: of an expression use one coefficient; of an equation its value at a point that you name;
  of an
  option letter or a word the position of its first letter in the alphabet; of several items take the smallest or the
  largest and apply these rules to it.
- If nothing fits, the number is None.

Then write one sentence that begins with "Define {ONE} as" and says how the number follows from the problem, so that a
reader who solves the problem can find it. The sentence must not contain the number itself.

Chain:
{{problem}}

Final answer: {{answer}}

Reply with these fields and nothing after them:
<analysis>why this number</analysis>
<value>the number in LaTeX, or None</value>
<definition>the sentence</definition>"""

RECOMPUTE_FIRST = """A problem, its final answer, and the definition of a number are given. Work out the number.

Chain:
{problem}

Final answer: {answer}

{definition}

End with the number in \\boxed{{}}."""

COMPARE = """Write a Python program with sympy that prints True if these two LaTeX values are equal and False if not.
Build the
values yourself from sympy numbers; do not parse text. If a value holds an irrational constant, compare to two decimals.

First: {first}
Second: {second}

Reply with one Python code block."""

EXTRACT_SECOND = f"""You are given a mathematics problem. Choose one number in its text and hide it behind the name
{TWO}.

How to choose: prefer integers, then fractions, then decimals, then numbers written as words, then numerals in other
bases;
among them prefer small values. The number must contain no unknown and no unit. If the same quantity is written in
several
places, replace it in all of them, in drawing code too; leave equal numbers that mean something else. If there is no
such
number, the value is None.

Chain:
{{problem}}

Reply with these fields and nothing after them:
<analysis>why this number</analysis>
<value>the number in LaTeX, or None</value>
<definition>one sentence that begins with "Define {TWO} as" and says what the number means, without saying
it</definition>
<modified>the whole problem with the number replaced by {TWO}</modified>"""

RECOVER_SECOND = f"""Compare a problem with a version of it in which one number was replaced by {TWO}. Which number
was it?

Original:
{{problem}}

Version:
{{modified}}

End with the number in \\boxed{{{{}}}}."""

DIFFERENCE = """Write a Python program with sympy that prints B - A, exact and simplified, for the LaTeX values A and
B below. Build
the values yourself from sympy numbers; do not parse text. Print with sympy.latex.

A: {first}
B: {second}

Reply with one Python code block."""

FOLLOW_LINK = """Write a Python program with sympy that prints the value of {two}, exact and simplified, given the
following. Build
the values yourself from sympy numbers; do not parse text. Print with sympy.latex.

{one} = {first}
{relation}

Reply with one Python code block."""

SYMBOLS = f"""Two problems are to be joined. Propose two different symbols of one letter each (Latin or Greek in
LaTeX) to stand for
{ONE} and {TWO}, neither used in the problems.

First problem:
{{first}}

Second problem:
{{second}}

Reply with these fields and nothing after them:
<symbol1>for {ONE}</symbol1>
<symbol2>for {TWO}</symbol2>"""

SHARED = """Do these two problems use the same variable symbol? Names of points, functions and unknowns count;
digits, units and
constants such as pi do not.

First problem:
{first}

Second problem:
{second}

Reply with these fields and nothing after them:
<analysis>the symbols of each</analysis>
<verdict>yes if they share a symbol, no if not</verdict>"""
