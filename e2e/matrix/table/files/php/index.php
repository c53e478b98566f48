<?php
header('Content-Type: text/plain');
echo 'generation=', getenv('HOLDFAST_GENERATION') ?: '0', "\n";
