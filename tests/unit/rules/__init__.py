"""The rules, other than the streak, that trip a circuit."""
