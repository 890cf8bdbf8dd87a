// Empty: functions without a body need an assembler file in their package.
