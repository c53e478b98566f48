my $generation = $ENV{HOLDFAST_GENERATION} // 0;
sub { [200, ['Content-Type' => 'text/plain'], ["generation=$generation\n"]] };
