package longwire

const childVariable = "LONGWIRE_TEST_CHILD"

func child() int { return 0 }
