# The judge of the history checker, without a server: histories made by hand, one for each kind of
# violation, and thousands of random ones on which it must agree with an exhaustive search. What it
# prints is TAP.

use strict;
use warnings FATAL => 'all';

use File::Copy;
use File::Temp;
use FindBin;

my $source = "$FindBin::RealBin/../checker";
my $build = File::Temp->newdir;

copy($_, $build->dirname) or die "could not copy $_: $!"
  foreach (glob("$source/*.[ch]"), "$source/Makefile");
system('make', '-s', '-C', $build->dirname, 'judge_test') == 0 or die 'could not build judge_test';
my $status = system($build->dirname . '/judge_test');
undef $build;
exit($status == 0 ? 0 : 1);
